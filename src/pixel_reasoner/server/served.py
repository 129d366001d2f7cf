"""A model that the server serves: its engine, and the reader of requests for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.request import RolloutObserver
from pixel_reasoner.server.chat import JobReader
from pixel_reasoner.server.conversation import Prompt
from pixel_reasoner.server.engine import RolloutEngine
from pixel_reasoner.server.metrics import Metrics
from pixel_reasoner.server.settings import ServerSettings
from pixel_reasoner.server.special_tokens import SpecialTokenEscaper


class Served(NamedTuple):
    """Engine and reader of one model."""

    engine: RolloutEngine
    reader: JobReader


def start_engine(
    model: GenerationModel,
    names: tuple[str, ...],
    settings: ServerSettings,
    metrics: Metrics,
    decoder: MediaDecoder,
    observers: Sequence[RolloutObserver] = (),
) -> Served:
    """Start the engine of a loaded model. Blocking.

    Args:
        model: closed with the engine.
        names: names for clients, the served name first.
        settings: of the server.
        metrics: of the server.
        decoder: of media.
        observers: told of rollouts, in addition to the metrics.
    """
    engine = RolloutEngine(model, settings, metrics, decoder)
    engine.scheduler.observers.extend(observers)
    capabilities = engine.scheduler.capabilities
    has_logprobs = capabilities.token_ids and capabilities.logprobs and hasattr(model, "decode")
    prompt = Prompt(model.dialect, model.budgets)
    reader = JobReader(settings, names, prompt, has_logprobs, SpecialTokenEscaper(model))
    engine.start()
    return Served(engine, reader)
