"""Continuous-batching engine with prefix sharing and a persistent KV cache per conversation.

engine.py        requests in, finished sequences out
scheduler.py     which sequences are prefilled or decoded next, and which are prefilled together
sequence.py      one request: ids, images, sampling parameters, logprobs, state
prefix_cache.py  what earlier sequences prefilled, and which of it a new one can reuse
layer_state.py   keys and values of the running sequences
runner.py        forward passes: vision encoder, prefill, decode
sampler.py       next tokens, with sampling parameters of each sequence
families/        what differs between model families; one file each
"""

from pixel_reasoner.models.engine.engine import Engine, is_supported, unwrap_peft
from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.sampler import Sampler, sample
from pixel_reasoner.models.engine.sequence import ImageInput, Sequence, SequenceState

__all__ = [
    "FAMILIES",
    "Engine",
    "ImageInput",
    "Sampler",
    "Sequence",
    "SequenceState",
    "is_supported",
    "sample",
    "unwrap_peft",
]
