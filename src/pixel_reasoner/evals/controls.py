"""Control conditions of an evaluation: the same questions again with one property of operations changed.

    out/controls/NAME/        one run per condition (`rollout.controls` describes them)
    summary["controls"]       metrics of each condition, and the paired difference: the run minus the condition

What a difference to a condition shows:

    forbidden    what operations add
    forced       what the choice not to use an operation costs
    random-crop  what the aim of a crop adds to more pixels
    blank        what the pixels of a crop add to the habit of calling
    oracle       what a perfect aim would add (negative: room for aim)
    tiling       what operations add to the same number of pixels without operations
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.compare import compare
from pixel_reasoner.evals.run import SUMMARY, Evaluation, OnTrace, evaluate, one_folder_up
from pixel_reasoner.files import write_json
from pixel_reasoner.rollout.controls import control_config
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.schema.settings import Control
from pixel_reasoner.schema.trace import StopReason, Trace

CONTROLS = "controls"
"""folder of the conditions, in the folder of the run"""
_METRICS = (
    *("count", "accuracy", "accuracy_interval", "score", "rapr", "evidence_hit_rate"),
    *("mean_operations", "new_tokens_per_question", "adaptivity"),
)


def evaluate_controls(
    summary: dict[str, Any],
    evaluation: Evaluation,
    controls: Sequence[Control],
    out: Path,
    on_trace: OnTrace = lambda trace: None,
) -> dict[str, Any]:
    """Ask all questions again under each control condition, and return the summary with `controls`.

    Args:
        summary: of the run in `out`, which must have finished.
        evaluation: questions, model and scorer of the run.
        controls: conditions, each once.
        out: folder of the run.
        on_trace: called with every trace of a condition.

    Raises:
        UsageError: a folder of a condition contains a run with other settings.
        OutputError: the folder cannot be written.
    """
    with FolderLock(out):
        found: dict[str, Any] = {}
        free_px = picture_px_per_question(load_run(out))
        for control in dict.fromkeys(controls):
            folder = out / CONTROLS / control
            questions = one_folder_up(one_folder_up(evaluation.questions))
            config = control_config(evaluation.config, control)
            # The response cache does not know what a condition depends on.
            changed = evaluation._replace(questions=questions, config=config, rows=None, cache=None)
            metrics = evaluate(changed, folder, on_trace)
            paired = compare(load_run(out), load_run(folder), evaluation.scorer)
            found[control] = {
                **{name: metrics[name] for name in _METRICS if name in metrics},
                "picture_px_per_question": picture_px_per_question(load_run(folder)),
                "difference": paired["difference"],
            }
        summary = {**summary, "picture_px_per_question": free_px, CONTROLS: found}
        write_json(summary, out / SUMMARY)
    return summary


def picture_px_per_question(traces: Iterable[Trace]) -> float | None:
    """Return the mean number of pixels of all pictures in the context, to which the number of visual tokens is proportional."""
    total, count = 0, 0
    for trace in traces:
        if trace.stop is StopReason.FAILED:
            continue
        pictures = trace.all_pictures.values()
        total += sum(one.seen_px[0] * one.seen_px[1] for one in pictures)
        count += 1
    return round(total / count, 1) if count else None
