"""Continuous-batching engine with prefix sharing and a persistent KV cache per conversation.

engine.py        requests in, finished sequences out
scheduler.py     choice between prefill and decode, and batches of sequences to prefill
sequence.py      one request: ids, images, sampling parameters, logprobs, state
prefix_cache.py  KV cache of finished sequences, and lookup of reusable prefixes
layer_state.py   keys and values of the running sequences
recurrent_state.py  states of linear-attention and convolution layers
vision_cache.py  encoded images by content
runner.py        forward passes: vision encoder, prefill, decode
sampler.py       sampling of next tokens with per-sequence parameters
support.py       which models the engine runs
families/        model-specific code, one file per family
"""

from pixel_reasoner.models.engine.engine import Engine, unwrap_peft
from pixel_reasoner.models.engine.families import FAMILIES, PromptText
from pixel_reasoner.models.engine.sampler import Sampler, sample
from pixel_reasoner.models.engine.sequence import ImageInput, Sequence, SequenceState
from pixel_reasoner.models.engine.support import (
    engine_support,
    fallback_note,
    folder_support,
    is_supported,
)

__all__ = [
    "FAMILIES",
    "Engine",
    "ImageInput",
    "PromptText",
    "Sampler",
    "Sequence",
    "SequenceState",
    "engine_support",
    "fallback_note",
    "folder_support",
    "is_supported",
    "sample",
    "unwrap_peft",
]
