"""Probe of the wording of PixelWorld, or of the questions of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.wording_probe import probe_wording
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason
from pixel_reasoner.workflows.world import WorldSpec, parse_families, prompt_settings
from pixel_reasoner.workflows.world2 import world2_source
from pixel_reasoner.world.questions import build_question
from pixel_reasoner.world.render import build_media_item
from pixel_reasoner.world.v2 import (
    build_media_item as build_media_item_2,
    build_question as build_question_2,
)

__all__ = ["probe_run", "probe_world", "question_family"]


def probe_world(spec: WorldSpec) -> dict[str, dict[str, Any]]:
    """Return how well the wording predicts the need of an operation, by family. Nothing is rendered.

    Raises:
        UsageError: unknown names.

    >>> probe_world(WorldSpec(family="attribute", count=24, world=2))["attribute"]["accuracy"]
    0.5
    """
    return probe_wording(_questions(spec), question_family)


def probe_run(run: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return how well the wording predicts need and use of operations in a run, each by family.

    Raises:
        InputError: not a run.
    """
    used = {
        trace.question.id: bool(trace.executed)
        for trace in load_run(run)
        if trace.stop is not StopReason.FAILED
    }
    questions = [trace.question for trace in load_run(run) if trace.question.id in used]
    return {
        "need": probe_wording(questions, question_family),
        "use": probe_wording(questions, question_family, lambda question: used[question.id]),
    }


def question_family(question: Question) -> str:
    """Return the family in the id of a question of PixelWorld.

    >>> question_family(Question(id="w2-where-7-3px-a-where-1", text="?", media=()))
    'where'
    """
    return question.id.removeprefix("w2-").partition("-")[0]


def _questions(spec: WorldSpec) -> Iterator[Question]:
    if spec.world == 1:
        for family in parse_families(spec.family):
            for one in spec.scenes(family):
                yield build_question(one, build_media_item(one))
        return
    source = world2_source(spec, prompt_settings(next(iter(BUNDLED_MODELS)))[1])
    for unit in source.units(Path()):
        scene = source.scene(unit)
        yield build_question_2(scene, build_media_item_2(scene))
