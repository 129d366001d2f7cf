"""Training monitor: metrics of every step, sampled rollouts, and periodic validation."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ProgressCallback

from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.files import atomic_writer, cannot_write
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.report import write_report
from pixel_reasoner.report.curves import LOG
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.runs.media_folders import folders_of, note_media_folders
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace, save_traces
from pixel_reasoner.scoring.grading import grade_trace
from pixel_reasoner.train import distributed
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.world import render, scenes

logger = logging.getLogger(__name__)

_PROGRESS_BAR_METRICS = {"reward": "reward", "accuracy": "accuracy", "rapr": "RaPR", "loss": "loss"}
"""metric of the log -> its name in the progress bar"""


class ValidationCallback(TrainerCallback):
    """Asks the model PixelWorld validation questions during training, and logs accuracy and RaPR.

    The main process asks, with the generation backend of the unwrapped model; the others wait for it. With sharded
    weights (FSDP, ZeRO-3) one process does not have the model, and a generation of all processes would need the same
    number of forward passes in each: validation is skipped, and the reason is logged once. Evaluate checkpoints then.
    """

    def __init__(
        self, run: SftRun | RlRun, processor: Any, settings: FolderSettings, trainer: Any
    ) -> None:
        self.run, self.processor, self.settings, self.trainer = run, processor, settings, trainer
        self._is_skip_logged = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Validate every `ask_every` steps, and after the last one."""
        every = self.run.ask_every or state.max_steps
        if state.global_step % every and state.global_step != state.max_steps:
            return
        should_log = control.should_log
        self.validate(state)
        control.should_log = should_log  # logging metrics here must not replace the log of the step

    def validate(self, state: Any) -> None:
        """Ask all questions once. Every process has to call this."""
        if distributed.has_sharded_weights(self.trainer):
            self._log_skip()
            return
        if state.is_world_process_zero:
            self._ask(state)
        self.trainer.accelerator.wait_for_everyone()

    def _ask(self, state: Any) -> None:
        weights = distributed.unwrap_model(self.trainer)
        was_training = weights.training
        model = LocalModel.of(weights, self.processor, self.settings)
        out = Path(self.run.out) / "samples"
        config = RolloutConfig(sampling=SamplingParams(max_new_tokens=128))
        metrics: dict[str, float] = {}
        traces: list[Trace] = []
        for family in self.run.ask_families:
            drawn = scenes(family, "validation", 0, self.run.ask_count)  # type: ignore[arg-type]
            questions = [with_media_root(question, out) for question in render(drawn, out)]
            asked = list(ask_many(questions, model, config))
            for group, values in summarize(asked)["by_category"].items():
                metrics[f"ask/{family}/{group}/accuracy"] = values["accuracy"]
                metrics[f"ask/{family}/{group}/rapr"] = values["rapr"]
            traces += asked
        note_media_folders(out, folders_of(item for one in traces for item in one.question.media))
        save_traces(traces, out / f"step-{state.global_step}.jsonl")
        weights.train(was_training)
        Trainer.log(self.trainer, metrics)  # TRL's log would flush the metrics of the step

    def _log_skip(self) -> None:
        if not self._is_skip_logged and distributed.is_main_process(self.trainer):
            logger.warning(
                "validation during training is skipped: weights are sharded over processes (FSDP or ZeRO-3). "
                "Evaluate checkpoints with `pixel-reasoner eval`, or set ask_count = 0."
            )
        self._is_skip_logged = True


class ProgressBarCallback(ProgressCallback):
    """Progress bar with the metrics of the last step, instead of a line per step."""

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


class LogCallback(TrainerCallback):
    """Writes the metrics of every step as one row of `log.jsonl`. A resumed run drops rows that it will write again."""

    def __init__(self, out: Path) -> None:
        self.path = out / LOG

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the rows up to the checkpoint."""
        if state.is_world_process_zero and self.path.exists():
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
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(row)
            except OSError as error:
                raise cannot_write(self.path, error) from error


class SampleRolloutsCallback(TrainerCallback):
    """Writes two groups of rollouts as traces and as a page, every `sample_every` steps."""

    def __init__(self, run: RlRun, trainer: Any) -> None:
        self.run, self.trainer = run, trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the first two groups of the last policy sync."""
        if state.is_world_process_zero and state.global_step % self.run.sample_every == 0:
            path = Path(self.run.out) / "samples" / f"rollouts-{state.global_step}.jsonl"
            sampled = self.trainer.samples[: 2 * self.run.group_size]
            media = (item for one in sampled for item in one.question.media)
            note_media_folders(path.parent, folders_of(media))
            save_traces(sampled, path)
            title = f"Rollouts, step {state.global_step}"
            # The reward counts an answer in \boxed{} alone, and so does this page.
            write_report(sampled, path.with_suffix(".html"), title, graded=grade_trace)
