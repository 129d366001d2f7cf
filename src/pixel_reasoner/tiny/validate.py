"""Metrics of the bundled model on held-out traces and on validation scenes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import is_right
from pixel_reasoner.tiny.build import CALL_FRAGMENTS
from pixel_reasoner.tiny.language import digit_accuracy
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.mixture import TraceSet, training_part
from pixel_reasoner.tiny.views import FRAME_PX, PICTURE_PX
from pixel_reasoner.world import FAMILIES, render, scenes, v2

MAX_NEW_TOKENS = 192
"""the longest answer names a character in each of 16 frames"""

POINTING: tuple[tuple[str, str, str, int], ...] = (
    ("attribute", "x1", CALL_FRAGMENTS[0], 2),
    ("attribute", "y1", CALL_FRAGMENTS[0], 5),
    ("infographic", "x1", CALL_FRAGMENTS[0], 2),
    ("infographic", "y1", CALL_FRAGMENTS[0], 5),
    ("video", "frame", CALL_FRAGMENTS[1], 1),
    ("w2-attribute", "x1", CALL_FRAGMENTS[0], 2),
    ("w2-video", "frame", CALL_FRAGMENTS[1], 1),
)
"""first digits of a call, which measure pointing: family, name, opening token, distance from it"""


def pointing_accuracy(model: Any, source: TraceSet, count: int) -> Metrics:
    """Return the teacher-forced accuracy of the first digits of calls in `count` held-out examples of a family."""
    builder = source.builder
    metrics: Metrics = {}
    for family, name, opening, offset in POINTING:
        numbers = builder.index.families.get(family, [])
        held_out = numbers[len(training_part(numbers)) :]
        if not held_out:
            continue
        rng = random.Random("held out")
        examples = [builder.draw(rng.choice(held_out), rng) for _ in range(count)]
        token = builder.processor.tokenizer.convert_tokens_to_ids(opening)
        accuracy = digit_accuracy(model, source.tokens, examples, token, offset)
        metrics[f"{family}_{name}"] = accuracy
    return metrics


def validate(folder: Path, media: Path, count: int, worlds: Sequence[int] = (1,)) -> Metrics:
    """Run a model folder on validation scenes of every family and return metrics per family.

    Args:
        folder: folder of the model.
        media: folder for rendered files.
        count: questions per family.
        worlds: versions of PixelWorld. Families of world 2 are called `w2-FAMILY`, and asked at every height.
    """
    model = LocalModel(str(folder))
    metrics: Metrics = {}
    if 1 in worlds:
        for family in FAMILIES:
            rendered = render(scenes(family, "validation", 0, count), media)
            traces = _answers(model, rendered, media)
            metrics |= {f"{family}_{name}": value for name, value in _metrics(traces).items()}
    if 2 in worlds:
        variants = v2.Variants(v2.HEIGHTS, v2.TWINS[:1])
        for kind in v2.FAMILIES:
            side = FRAME_PX if kind in v2.CLIPS else PICTURE_PX
            versions = v2.make_scenes(kind, "validation", 0, count, side, variants=variants)
            traces = _answers(model, v2.render(versions, media), media)
            metrics |= {f"w2-{kind}_{name}": value for name, value in _metrics(traces).items()}
    return metrics


def _answers(model: LocalModel, rendered: Iterable[Question], media: Path) -> list[Trace]:
    config = RolloutConfig(sampling=SamplingParams(max_new_tokens=MAX_NEW_TOKENS))
    questions = [with_media_root(question, media) for question in rendered]
    return list(ask_many(questions, model, config, batch_size=25))


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
