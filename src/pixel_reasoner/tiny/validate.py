"""Metrics of the bundled model on held-out traces and on validation scenes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import is_right
from pixel_reasoner.tiny.build import CALL_FRAGMENTS
from pixel_reasoner.tiny.examples import ExampleBuilder
from pixel_reasoner.tiny.language import digit_accuracy
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.token_cache import VisualTokens
from pixel_reasoner.world import FAMILIES, Family, render, scenes

HELD_OUT = 0.05
"""share of held-out traces, never used to train the language model"""
POINTING: tuple[tuple[Family, str, str, int], ...] = (
    ("attribute", "x1", CALL_FRAGMENTS[0], 2),
    ("attribute", "y1", CALL_FRAGMENTS[0], 5),
    ("infographic", "x1", CALL_FRAGMENTS[0], 2),
    ("infographic", "y1", CALL_FRAGMENTS[0], 5),
    ("video", "frame", CALL_FRAGMENTS[1], 1),
)
"""first digits of a call, which measure pointing: family, name, opening token, distance from it"""


def training_part(numbers: list[int]) -> list[int]:
    """Return the numbers of the training traces, without held-out ones.

    >>> training_part(list(range(20)))[-1]
    18
    """
    return numbers[: round(len(numbers) * (1 - HELD_OUT))]


def pointing_accuracy(
    model: Any, builder: ExampleBuilder, cache: dict[Size, VisualTokens], count: int
) -> Metrics:
    """Return the teacher-forced accuracy of the first digits of calls in `count` held-out examples of a family."""
    metrics: Metrics = {}
    for family, name, opening, offset in POINTING:
        numbers = builder.index.families.get(family, [])
        held_out = numbers[len(training_part(numbers)) :]
        if not held_out:
            continue
        rng = random.Random("held out")
        examples = [builder.draw(rng.choice(held_out), rng) for _ in range(count)]
        token = builder.processor.tokenizer.convert_tokens_to_ids(opening)
        metrics[f"{family}_{name}"] = digit_accuracy(model, cache, examples, token, offset)
    return metrics


def validate(folder: Path, media: Path, count: int) -> Metrics:
    """Run a model folder on validation scenes of every family and return metrics per family.

    Args:
        folder: folder of the model.
        media: folder for rendered files.
        count: scenes per family.
    """
    model = LocalModel(str(folder))
    config = RolloutConfig(sampling=SamplingParams(max_new_tokens=128))
    metrics: Metrics = {}
    for family in FAMILIES:
        rendered = render(scenes(family, "validation", 0, count), media)
        questions = [with_media_root(question, media) for question in rendered]
        traces = list(ask_many(questions, model, config, batch_size=25))
        metrics |= {f"{family}_{name}": value for name, value in _metrics(traces).items()}
    return metrics


def _metrics(traces: list[Trace]) -> Metrics:
    detail = [trace for trace in traces if trace.question.needs_look]
    overview = [trace for trace in traces if not trace.question.needs_look]
    hits = [trace for trace in detail if evidence_hit(trace)]
    return {
        "accuracy": summarize(traces)["accuracy"],
        "pointing": len(hits) / max(1, len(detail)),
        "reading": _accuracy(hits),
        "overview": _accuracy(overview),
        "looks_when_needed": _operation_rate(detail),
        "looks_when_not": _operation_rate(overview),
    }


def _operation_rate(traces: list[Trace]) -> float:
    return sum(bool(trace.executed) for trace in traces) / max(1, len(traces))


def _accuracy(traces: list[Trace]) -> float:
    return sum(map(is_right, traces)) / max(1, len(traces))
