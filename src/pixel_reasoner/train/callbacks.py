"""What a run tells while it trains: figures of every step, rollouts to look at, and questions that it is really asked."""

from __future__ import annotations

import json
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
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace, save_traces
from pixel_reasoner.scoring.grading import grade_trace
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.world import render, scenes

_TOLD = {"reward": "reward", "accuracy": "accuracy", "rapr": "RaPR", "loss": "loss"}
"""figures of the log -> what they are called behind the progress bar"""


class ValidationCallback(TrainerCallback):
    """Asks the model PixelWorld validation questions while it trains: figures to the log, traces to look at."""

    def __init__(
        self, run: SftRun | RlRun, processor: Any, settings: FolderSettings, trainer: Any
    ) -> None:
        self.run, self.processor, self.settings, self.trainer = run, processor, settings, trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A round every `ask_every` steps, and one at the end."""
        every = self.run.ask_every or state.max_steps
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            wanted = control.should_log
            self.ask(state)
            control.should_log = wanted  # a log of ours does not stand for that of the step

    def ask(self, state: Any) -> None:
        """One round, by the main process alone."""
        if not state.is_world_process_zero:
            return
        weights = self.trainer.accelerator.unwrap_model(self.trainer.model)
        was_training = weights.training
        model = LocalModel.of(weights, self.processor, self.settings)
        out = Path(self.run.out) / "samples"
        rules = RolloutConfig(sampling=SamplingParams(max_new_tokens=128))
        figures: dict[str, float] = {}
        traces: list[Trace] = []
        for family in self.run.ask_families:
            wanted = scenes(family, "validation", 0, self.run.ask_count)  # type: ignore[arg-type]
            questions = [with_media_root(question, out) for question in render(wanted, out)]
            asked = list(ask_many(questions, model, rules))
            groups = summarize(asked)["by_category"]
            for group, numbers in groups.items():
                figures[f"ask/{family}/{group}/accuracy"] = numbers["accuracy"]
                figures[f"ask/{family}/{group}/rapr"] = numbers["rapr"]
            traces += asked
        save_traces(traces, out / f"step-{state.global_step}.jsonl")
        weights.train(was_training)
        Trainer.log(self.trainer, figures)  # TRL's would take the metrics of the step with it


class ProgressBarCallback(ProgressCallback):
    """A progress bar that tells the figures of a step behind it, and not line by line."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Tell those of the last step."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            told = {short: logs[name] for name, short in _TOLD.items() if name in logs}
            if told:
                self.training_bar.set_postfix(
                    {name: f"{value:.2f}" for name, value in told.items()}
                )


class LogCallback(TrainerCallback):
    """All figures of every step as one row of `log.jsonl`; a run that goes on drops rows that it will write again."""

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
    """A page of rollouts to look at, every so many steps."""

    def __init__(self, run: RlRun, trainer: Any) -> None:
        self.run, self.trainer = run, trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Two groups of the last rollouts, as traces and as a page."""
        if state.is_world_process_zero and state.global_step % self.run.sample_every == 0:
            path = Path(self.run.out) / "samples" / f"rollouts-{state.global_step}.jsonl"
            shown = self.trainer.samples[: 2 * self.run.group_size]
            save_traces(shown, path)
            title = f"Rollouts, step {state.global_step}"
            # Right is what was paid as such: boxed.
            write_report(shown, path.with_suffix(".html"), title, graded=grade_trace)
