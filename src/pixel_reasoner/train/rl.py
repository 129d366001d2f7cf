"""Phase 2: curiosity-driven RL, by TRL's `GRPOTrainer`.

`grpo.LookAgainTrainer` is the trainer, `env.LookAgain` a rollout in it; here a run is set up and started.

    pixel-reasoner train rl run.toml
    accelerate launch -m pixel_reasoner.cli train rl run.toml       # all GPUs of a machine, or a cluster

Departures from the paper (arXiv 2505.15966): none known in the reward. Where it is silent (clipping, how the loss is averaged) the
defaults are those of the released code: asymmetric clipping at 0.2 and 0.35, the mean over the tokens of a minibatch, no
division by the group's deviation. The released replay draws half the items and never clears its buffer; ours does as the paper says.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from transformers.trainer_callback import ProgressCallback
from trl import GRPOConfig

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.template_check import assert_template_carries
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import atomic_writer, keep_settings
from pixel_reasoner.models.folder import (
    FolderSettings,
    budgets_for_processor,
    folder_settings,
    model_folder,
    model_source,
)
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.scoring import rewards
from pixel_reasoner.sources.base import read_questions
from pixel_reasoner.sources.pixelworld import world_questions
from pixel_reasoner.sources.rows import SkippedRow
from pixel_reasoner.train.callbacks import (
    LogCallback,
    ProgressBarCallback,
    SampleRolloutsCallback,
    ValidationCallback,
)
from pixel_reasoner.train.config import RlRun, arithmetic, refuse_unknown
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.trl_env import opening_messages
from pixel_reasoner.train.weights import last_checkpoint, load_weights, lora_config, save_model

DEFAULTS = {
    "learning_rate": 1e-6,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,  # a share of all
    "beta": 0.0,  # no KL term
    "epsilon": 0.2,
    "epsilon_high": 0.35,
    "scale_rewards": "none",
    "loss_type": "dapo",
    "max_completion_length": 4096,
    "num_train_epochs": 3.0,
}
"""the settings of the paper (arXiv 2505.15966, appendix), and of its released code where the paper is silent"""
_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")
"""TRL would find out in the first gradient step"""
_NO_LIMIT = 10**6


def train_rl(run: RlRun) -> Path:
    """Train, or go on with a run that was killed; returns the folder of the model.

    Raises:
        UsageError: options that do not exist or do not fit, a folder with another run, or a reward function that fails.
        InputError: questions or media that cannot be read.
        ModelError: a model that cannot be loaded.
        OutputError: the folder cannot be written.
    """
    args = trl_config(run)
    own = [load_reward(name) for name in run.reward_functions]
    speaker = folder_settings(model_folder(run.model))
    dialect = get_dialect(speaker.dialect)  # an unknown one is known before anything is loaded
    rules, out, where = rules_of(run), Path(run.out), model_source(run.model)
    with args.main_process_first():
        keep_settings(out / "run.json", json.loads(json.dumps(asdict(run))))
        questions = load_questions(run)
    plain = load_processor(where)
    budgets = budgets_for_processor(speaker, plain.image_processor)
    speaker = speaker.model_copy(update={"budgets": budgets})
    if rules.operations:
        render = partial(plain.apply_chat_template, tokenize=False)
        assert_template_carries(render, dialect, run.model)
    trainer = PixelReasonerTrainer(
        run=run,
        speaker=speaker,
        rules=rules,
        own_rewards=own,
        model=load_weights(where, run, bf16=args.bf16),
        args=args,
        train_dataset=question_rows(questions, speaker, rules),
        processing_class=load_processor(where),  # the trainer changes its template
        peft_config=lora_config(run),
    )
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ProgressBarCallback())
    trainer.add_callback(LogCallback(out))
    if run.sample_every:
        trainer.add_callback(SampleRolloutsCallback(run, trainer))
    if run.ask_count:
        trainer.add_callback(ValidationCallback(run, plain, speaker, trainer))
    trainer.train(resume_from_checkpoint=last_checkpoint(out))
    folder = out / "model"
    save_model(trainer, plain, speaker, folder)
    return folder


# --- before training ---


def trl_config(run: RlRun) -> GRPOConfig:
    """TRL's configuration of a run.

    Raises:
        UsageError: an option that TRL does not have, does not take, or that does not fit the run.
    """
    refuse_unknown(run.trl, GRPOConfig.__dataclass_fields__, "[trl]")
    sums = arithmetic(run, int(os.environ.get("WORLD_SIZE", "1")))
    limit = "max_tokens" if run.trl.get("use_vllm") else "max_new_tokens"
    ours = {
        "output_dir": run.out,
        "remove_unused_columns": False,
        "num_generations": run.group_size,
        "per_device_train_batch_size": sums.micro_batch,
        "gradient_accumulation_steps": sums.accumulation,
        "steps_per_generation": sums.accumulation * sums.minibatches_per_sync,
        "max_tool_calling_iterations": run.max_turns - 1,
        "generation_kwargs": {limit: run.max_new_tokens} | run.trl.get("generation_kwargs", {}),
        "use_cpu": not torch.cuda.is_available(),
        "bf16": torch.cuda.is_available(),
        "report_to": "tensorboard",
        "logging_steps": 1,
        "save_steps": sums.minibatches_per_sync * max(1, 50 // sums.minibatches_per_sync),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "gradient_checkpointing": torch.cuda.is_available(),
        "ddp_find_unused_parameters": run.train_vision,  # a batch may hold no picture
    }
    try:
        args = GRPOConfig(
            **{**DEFAULTS, **ours, **run.trl, "generation_kwargs": ours["generation_kwargs"]}
        )
    except (TypeError, ValueError) as error:
        raise UsageError(
            expected="options that trl.GRPOConfig takes", got=str(error), fix="correct [trl]"
        ) from error
    if args.loss_type not in _LOSSES:
        raise UsageError(
            expected=f"loss_type {', '.join(_LOSSES)}",
            got=repr(args.loss_type),
            fix="name one of these",
        )
    if args.save_strategy == "steps" and args.save_steps % sums.minibatches_per_sync:
        raise UsageError(
            expected=f"save_steps as a multiple of the {sums.minibatches_per_sync} steps of a sync, so that a run that "
            "goes on has no rollouts to lose",
            got=str(args.save_steps),
            fix="correct save_steps under [trl]",
        )
    return args


def rules_of(run: RlRun) -> RolloutConfig:
    """The rules of a rollout in training, as `ask` would have them."""
    return RolloutConfig(
        limits=RolloutLimits(max_turns=run.max_turns, max_pictures=_NO_LIMIT),
        sampling=SamplingParams(max_new_tokens=run.max_new_tokens, temperature=1.0),
    )


def load_questions(run: RlRun) -> list[Question]:
    """All questions of a run. What cannot be used is named in `dropped.jsonl` and counted on the way.

    Raises:
        InputError: nothing that can be asked.
    """
    rows = [row for source in run.questions for row in read_questions(Path(source))]
    dropped = [row for row in rows if isinstance(row, SkippedRow)]
    questions = [row for row in rows if isinstance(row, Question)]
    if run.pixelworld is not None:
        questions += world_questions(run.pixelworld, Path(run.out) / "questions")
    if dropped:
        with atomic_writer(Path(run.out) / "dropped.jsonl") as file:
            file.writelines(json.dumps(row._asdict()) + "\n" for row in dropped)
    if len(questions) < run.questions_per_sync:
        told = ", ".join(
            f"{count} {why}" for why, count in Counter(d.reason for d in dropped).items()
        )
        raise InputError(
            expected=f"at least {run.questions_per_sync} questions, as many as a sync takes",
            got=f"{len(questions)}" + (f" (dropped: {told})" if told else ""),
            fix="give more, lower questions_per_sync, or see dropped.jsonl",
        )
    return questions


def question_rows(
    questions: Iterable[Question], speaker: FolderSettings, rules: RolloutConfig
) -> Dataset:
    """Questions as rows of text: the opening messages, and the question as JSON for `LookAgain.reset`."""
    questions = list(questions)
    begin = [opening_messages(speaker, rules, question.media) for question in questions]
    told = [question.to_line() for question in questions]
    return Dataset.from_dict({"prompt": begin, "question": told})


def load_reward(name: str) -> rewards.TraceReward:
    """A reward function by its name: one of `REWARDS`, `package.module:function` or `file.py:function`.

    Raises:
        UsageError: there is none.
    """
    if name in rewards.REWARDS:
        return rewards.REWARDS.get(name)
    module, _, function = name.rpartition(":")
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            assert spec is not None
            assert spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
        else:
            loaded = importlib.import_module(module)
        found: rewards.TraceReward = getattr(loaded, function)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise UsageError(
            expected="reward functions as package.module:function or file.py:function, or one of"
            f" {', '.join(rewards.REWARDS)}",
            got=f"{name}: {error}",
            fix="correct reward_functions",
        ) from error
    return found
