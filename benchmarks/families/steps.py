"""One step of SFT and one of RL on a model folder, with scripted turns that call an operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForMultimodalLM

from families.checks import CONFIG, ScriptedTurns, load, question, zoom
from pixel_reasoner.data.encode import encode
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.template_check import assert_template_keeps_thoughts
from pixel_reasoner.models.folder import folder_settings
from pixel_reasoner.models.local import LocalModel, load_processor
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.rl import question_rows, rollout_config
from pixel_reasoner.train.sft import train_sft, use_training_template
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import load_weights

TRL = {
    "max_steps": 1,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 5,
}


class TrainedStep(NamedTuple):
    """Result of one step."""

    model: Path | None
    """folder of the trained model"""
    loss: float
    changed: float
    """fraction of the weight tensors that changed"""
    trained_text: str
    """text of the tokens that the loss covers"""
    expected_text: str
    """texts of the turns with their end tokens, as the model writes them"""


def sft_step(folder: Path, photo: Path, out: Path) -> TrainedStep:
    """Train one step on a trace with a zoom, and return the result with the new model folder."""
    model = load(folder)
    answer = _answer(model)
    trace = ask(question(photo), ScriptedTurns(model, [zoom(model), answer]), CONFIG)
    assert trace.turns[0].observations[0].error is None, trace.turns[0].observations
    path = out / "traces.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(trace.to_line() + "\n")
    run = SftRun(
        traces=(str(path),),
        out=str(out / "sft"),
        model=str(folder),
        train_vision=True,
        prepare=False,
        trl={**TRL, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1},
    )
    trained = train_sft(run)
    processor = load_processor(str(folder))
    use_training_template(processor)
    encoded = encode(trace, processor)
    ids = [one for one, kept in zip(encoded.token_ids, encoded.trained, strict=True) if kept]
    loss = _first_loss(out / "sft")
    return TrainedStep(
        trained,
        loss,
        changed_fraction(folder, trained),
        processor.tokenizer.decode(ids, clean_up_tokenization_spaces=False),
        "".join(turn.text for turn in trace.turns),
    )


def _answer(model: LocalModel) -> str:
    return f"I see it now. {get_dialect(model.dialect).answer_format.write('it')}"


def _first_loss(out: Path) -> float:
    from pixel_reasoner.reports.training_log import read_log

    return next(float(row["loss"]) for row in read_log(out) if "loss" in row)


def changed_fraction(before: Path, after: Path) -> float:
    """Return the fraction of the weight tensors of two folders that differ."""
    first, second = (
        AutoModelForMultimodalLM.from_pretrained(one, dtype=torch.float32).state_dict()
        for one in (before, after)
    )
    assert first.keys() == second.keys()
    return sum(not torch.equal(first[name], second[name]) for name in first) / len(first)


# --- RL ---


class _Scripted:
    """Turn source of two rollouts: one zooms and answers right, the other answers wrong."""

    def __init__(self, tokenizer: Any, scripts: Sequence[Sequence[str]], end: int) -> None:
        self.tokenizer, self.scripts, self.end = tokenizer, scripts, end

    def clear(self) -> None:
        """Start with the first turns again."""
        self._turns = [list(script) for script in self.scripts]

    def generate(
        self, prompt_ids: Sequence[Any], images: Any = None
    ) -> tuple[list[list[int]], None]:
        """Return the next turn of each rollout that has not answered."""
        waiting = [turns for turns in self._turns if turns]
        texts = [turns.pop(0) for turns in waiting]
        assert len(texts) == len(prompt_ids)
        encode_text = self.tokenizer.encode
        return [[*encode_text(one, add_special_tokens=False), self.end] for one in texts], None


class ScriptedTrainer(PixelReasonerTrainer):
    """Trainer with scripted turns that records its losses and compares its log-probabilities with those of the model alone."""

    scripts: Sequence[Sequence[str]]

    def _turn_source(self) -> Any:
        self.found_losses: list[float] = []
        self.differences: list[float] = []
        return _Scripted(self._tokenizer, self.scripts, self._tokenizer.eos_token_id)

    def _samples(self, output: dict[str, Any]) -> Any:
        found = list(super()._samples(output))
        self.num_sequences = [len(one.sequences) for one in found]
        return found

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        """Return and record the loss."""
        loss = super().compute_loss(model, inputs, *args, **more)
        self.found_losses.append(float(loss.detach()))
        return loss

    def _get_per_token_logps_and_entropies(self, model: Any, *inputs: Any, **more: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(model, *inputs, **more)
        if self._forward_inputs is not None:
            self.differences.append(self._difference(found[0].detach(), *inputs))
        return found

    @torch.no_grad()
    def _difference(self, found: torch.Tensor, ids: Any, mask: Any, keep: int) -> float:
        """Return the largest difference from the log-probabilities of the unpatched model."""
        model = self.accelerator.unwrap_model(self.model)
        logits = model(input_ids=ids, attention_mask=mask, **(self._forward_inputs or {})).logits
        scaled = torch.log_softmax(logits[:, :-1].float() / self.temperature, dim=-1)
        own = scaled.gather(2, ids[:, 1:, None])[:, -keep:, 0]
        return float(((own - found).abs() * mask[:, -keep:]).max())


class RlStep(NamedTuple):
    """Result of one step of RL."""

    losses: list[float]
    differences: list[float]
    """largest differences of log-probabilities from those of the model alone"""
    changed: float
    num_sequences: list[int]
    """token sequences of each rollout; more than one if the second prompt changes the first"""
    advantages: list[float]


def rl_step(folder: Path, photo: Path, out: Path) -> RlStep:
    """Train one step on two scripted rollouts of a question, and return the result."""
    model = load(folder)
    scripts = [[zoom(model), _answer(model)], [_answer(model).replace("it", "that")]]
    run = RlRun(
        out=str(out),
        questions=("scripted",),
        model=str(folder),
        questions_per_sync=1,
        group_size=2,
        minibatch=2,
        rollouts_at_once=2,
        max_turns=2,
        max_new_tokens=256,
        replay=False,
        sample_every=0,
        train_vision=True,
        trl={**TRL, "per_device_train_batch_size": 2, "max_completion_length": 4096},
    )
    settings = folder_settings(folder).model_copy(update={"budgets": model.budgets})
    render = partial(model.processor.apply_chat_template, tokenize=False)
    assert_template_keeps_thoughts(render, get_dialect(model.dialect), str(folder))
    kind = type("Scripted", (ScriptedTrainer,), {"scripts": scripts})
    args = trl_config(run)
    weights = load_weights(str(folder), run, bf16=False)
    before = {name: one.detach().clone() for name, one in weights.named_parameters()}
    trainer = kind(
        run=run,
        model_settings=settings,
        config=rollout_config(run),
        model=weights,
        args=args,
        train_dataset=question_rows([question(photo)]),
        processing_class=load_processor(str(folder)),
    )
    trainer.train()
    after = dict(trainer.accelerator.unwrap_model(trainer.model).named_parameters())
    changed = [not torch.equal(before[name], after[name].detach()) for name in before]
    return RlStep(
        trainer.found_losses,
        trainer.differences,
        sum(changed) / len(changed),
        trainer.num_sequences,
        [rewards["advantage"] for rewards in trainer.sample_rewards],
    )
