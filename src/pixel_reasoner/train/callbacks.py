"""Training monitor: metrics of every step, sampled rollouts, and periodic validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ProgressCallback
from transformers.utils import logging as transformers_logging

from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.files import atomic_writer, write_json
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import select_cpu_of_deepspeed
from pixel_reasoner.reports import write_report
from pixel_reasoner.reports.training_log import LOG, rewards_path
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.runs.media_folders import collect_folders, note_media_folders
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace, save_traces
from pixel_reasoner.scoring.grading import grade_trace
from pixel_reasoner.train import distributed
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.weights import gathered_model
from pixel_reasoner.world import render, scenes

_PROGRESS_BAR_METRICS = {
    "reward": "reward",
    "accuracy": "accuracy",
    "rapr": "RaPR",
    "loss": "loss",
    "mean_token_accuracy": "token accuracy",
    "eval_loss": "eval loss",
}
"""metric in the log -> its name in the progress bar"""


class ValidationCallback(TrainerCallback):
    """Periodic validation: runs the model on PixelWorld validation questions, and logs accuracy and RaPR.

    The main process generates with the backend of the unwrapped model; the others wait. With sharded weights (FSDP,
    ZeRO-3) it
    uses a gathered copy, because generation in all processes would need the same number of forward passes in each.
    """

    def __init__(
        self, run: SftRun | RlRun, processor: Any, settings: FolderSettings, trainer: Any
    ) -> None:
        self.run, self.processor, self.settings, self.trainer = run, processor, settings, trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Validate every `ask_every` steps, and after the last one."""
        every = self.run.ask_every or state.max_steps
        if state.global_step % every and state.global_step != state.max_steps:
            return
        should_log = control.should_log
        self.validate(state)
        control.should_log = should_log  # logging metrics here must not replace the step's log

    def validate(self, state: Any) -> None:
        """Ask all questions once. Collective: every process must call this."""
        if distributed.has_sharded_weights(self.trainer):
            weights = gathered_model(self.trainer)
        else:
            weights = distributed.unwrap_model(self.trainer)
        if state.is_world_process_zero:
            self._ask(weights, state)
        self.trainer.accelerator.wait_for_everyone()

    def _ask(self, weights: Any, state: Any) -> None:
        was_training = weights.training
        model = LocalModel.of(weights, self.processor, self.settings)
        out = Path(self.run.out) / "samples"
        sampling = SamplingParams(max_new_tokens=128)
        config = RolloutConfig(operations=self.run.operations, sampling=sampling)
        metrics: dict[str, float] = {}
        traces: list[Trace] = []
        for family in self.run.ask_families:
            drawn = scenes(family, "validation", 0, self.run.ask_count)  # type: ignore[arg-type]
            questions = [with_media_root(question, out) for question in render(drawn, out)]
            finished = {trace.question.id: trace for trace in ask_many(questions, model, config)}
            asked = [finished[question.id] for question in questions]
            for group, values in summarize(asked)["by_category"].items():
                metrics[f"ask/{family}/{group}/accuracy"] = values["accuracy"]
                metrics[f"ask/{family}/{group}/rapr"] = values["rapr"]
            traces += asked
        note_media_folders(
            out, collect_folders(item for one in traces for item in one.question.media)
        )
        save_traces(traces, out / f"step-{state.global_step}.jsonl")
        weights.train(was_training)
        Trainer.log(self.trainer, metrics)  # TRL's log would flush the metrics of the step


class ProgressBarCallback(ProgressCallback):
    """Progress bar with the metrics of the last step, instead of one line per step."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the metrics of the last step."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            shown = {
                short: f"{logs[name]:.2f}"
                for name, short in _PROGRESS_BAR_METRICS.items()
                if name in logs
            }
            if shown:
                self.training_bar.set_postfix(shown)


def show_one_progress_line(trainer: Any) -> None:
    """Replace the printed metrics of transformers with one progress bar, unless `disable_tqdm` is set."""
    if not trainer.args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ProgressBarCallback())


def quiet_libraries() -> None:
    """Suppress progress bars of weight files and warnings of libraries, which would break the progress line."""
    select_cpu_of_deepspeed()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


class LogCallback(TrainerCallback):
    """Log of every step's metrics, one row of `log.jsonl` per step. A resumed run drops rows that it will write again."""

    def __init__(self, out: Path) -> None:
        self.path = out / LOG

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the rows up to the checkpoint."""
        if state.is_world_process_zero and self.path.exists():
            with Segment(self.path):  # drops an incomplete last row
                rows = self.path.read_text(encoding="utf-8").splitlines()
            with atomic_writer(self.path) as file:
                file.writelines(
                    row + "\n" for row in rows if json.loads(row)["step"] <= state.global_step
                )

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Append a row."""
        if state.is_world_process_zero and logs:
            row = json.dumps({"step": state.global_step, **logs}) + "\n"
            with Segment(self.path) as log:
                log.append(row.encode())


class SampleRolloutsCallback(TrainerCallback):
    """Sampled rollouts: two groups, as traces and as an HTML page, every `sample_every` steps."""

    def __init__(self, run: RlRun, trainer: Any) -> None:
        self.run, self.trainer = run, trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the first two groups of the last policy sync."""
        if state.is_world_process_zero and state.global_step % self.run.sample_every == 0:
            path = Path(self.run.out) / "samples" / f"rollouts-{state.global_step}.jsonl"
            sampled = self.trainer.samples[: 2 * self.run.group_size]
            media = (item for one in sampled for item in one.question.media)
            note_media_folders(path.parent, collect_folders(media))
            save_traces(sampled, path)
            self._save_rewards(path, len(sampled))
            title = f"Rollouts, step {state.global_step}"
            # Grade \boxed{} answers only, as the reward does.
            write_report(sampled, path.with_suffix(".html"), title, graded=grade_trace)

    def _save_rewards(self, path: Path, count: int) -> None:
        """Write the reward terms and advantages of the first traces, in their order."""
        write_json({"rollouts": self.trainer.sample_rewards[:count]}, rewards_path(path))
