"""Phase 2: curiosity-driven RL with TRL's `GRPOTrainer`.

`grpo.PixelReasonerTrainer` is the trainer, `rollouts.generator.RolloutGenerator` generates rollouts; this module sets up a run.

    pixel-reasoner train rl run.toml
    torchrun --nproc_per_node gpu -m pixel_reasoner.cli train rl run.toml      # all GPUs of a machine; `sharding` in the run

Departures from the paper (arXiv 2505.15966): none known in the reward. If the paper gives no value (clipping, loss
aggregation), the defaults are those of the upstream code: asymmetric clipping at 0.2 and 0.35, the mean over the tokens
of a
minibatch, no division by the group's standard deviation. The upstream replay draws half of the items and never clears
its
buffer; this implementation follows the paper.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.template_check import (
    assert_template_keeps_thoughts,
    assert_template_supports,
)
from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.models.folder import (
    FolderSettings,
    budgets_for_processor,
    check_trained_world,
    folder_settings,
)
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import (
    PixelBudgets,
    RolloutConfig,
    RolloutLimits,
    SamplingParams,
)
from pixel_reasoner.scoring.rewards import DeltaBaseline, TraceReward
from pixel_reasoner.sources.pixelworld import world_questions
from pixel_reasoner.sources.question_files import read_questions
from pixel_reasoner.sources.rows import SkippedRow
from pixel_reasoner.train import distributed
from pixel_reasoner.train.callbacks import (
    LogCallback,
    SampleRolloutsCallback,
    ValidationCallback,
    quiet_libraries,
    show_one_progress_line,
)
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.counterfactuals import check_twins
from pixel_reasoner.train.folder import training_folder
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.reward_functions import load_reward
from pixel_reasoner.train.rollouts.question_order import question_row
from pixel_reasoner.train.sharding.check import ShardingCallback
from pixel_reasoner.train.sharding.processes import check_processes
from pixel_reasoner.train.sharding.setup import set_wrapped_classes, start_processes
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.vllm.check import ServerInfo, check_servers
from pixel_reasoner.train.weights import load_weights, lora_config, train_and_save

NO_LIMIT = 10**6
"""maximum pictures per rollout: the token limits of a run end it earlier"""


def train_rl(run: RlRun) -> Path:
    """Train, or resume a stopped run, and return the folder of the model.

    Raises:
        UsageError: unknown or inconsistent options, a folder with another run, or a failing reward function.
        InputError: questions or media that cannot be read.
        ModelError: a model that cannot be loaded.
        OutputError: the folder cannot be written.
    """
    quiet_libraries()
    start_processes(run)
    args = trl_config(run)
    check_processes(run, args)
    user_rewards = [load_reward(name) for name in run.reward_functions]
    with args.main_process_first():
        model = local_model(run.model)
    folder_config = folder_settings(model)
    for source in run.questions:
        if not Path(source).exists():
            raise InputError(
                expected="files or folders of questions",
                got=f"{source}, which does not exist",
                fix="correct `questions`; paths are relative to the TOML file",
            )
    vllm = distributed.main_process_result(partial(_check_vllm, run, args, Path(model)))
    get_dialect(folder_config.dialect)  # fail on an unknown dialect before anything is loaded
    with training_folder(run, args) as out:
        trainer, processor, settings = _build_trainer(
            run, args, user_rewards, str(model), folder_config, vllm
        )
        with trainer.publisher or nullcontext():
            return train_and_save(trainer, run, processor, settings, out)


def _check_vllm(run: RlRun, args: Any, model: Path) -> ServerInfo | None:
    """Return the properties of the vLLM servers of a run; None without `[vllm]`."""
    if run.vllm is None:
        return None
    dtype = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    can_sleep = bool(run.vllm.colocated_memory) and not args.use_cpu
    return check_servers(run.vllm, model, dtype, run.lora_rank, can_sleep=can_sleep)


def _build_trainer(
    run: RlRun,
    args: Any,
    user_rewards: list[TraceReward],
    source: str,
    folder_config: FolderSettings,
    vllm: ServerInfo | None,
) -> tuple[PixelReasonerTrainer, Any, FolderSettings]:
    """Return the trainer of a run with its model, a processor, and the settings of the model folder."""
    config = rollout_config(run)
    processor = load_processor(source)
    budgets = budgets_for_processor(folder_config, processor.image_processor)
    with args.main_process_first():
        questions = load_questions(run, budgets or get_dialect(folder_config.dialect).budgets)
    trained = {}
    if run.pixelworld is not None:
        trained["worlds"] = tuple(sorted({*folder_config.worlds, run.pixelworld.world}))
    model_settings = folder_config.model_copy(update={"budgets": budgets, **trained})
    if config.operations:
        render = partial(processor.apply_chat_template, tokenize=False)
        assert_template_supports(render, get_dialect(model_settings.dialect), run.model)
        assert_template_keeps_thoughts(render, get_dialect(model_settings.dialect), run.model)
    model = load_weights(source, run, bf16=args.bf16)
    set_wrapped_classes(args, model)
    trainer = PixelReasonerTrainer(
        run=run,
        model_settings=model_settings,
        config=config,
        user_rewards=user_rewards,
        vllm=vllm,
        model=model,
        args=args,
        train_dataset=question_rows(questions),
        processing_class=load_processor(source),  # the trainer modifies its tokenizer
        peft_config=lora_config(run),
    )
    _add_callbacks(trainer, run, processor, model_settings)
    return trainer, processor, model_settings


def _add_callbacks(
    trainer: PixelReasonerTrainer, run: RlRun, processor: object, model_settings: FolderSettings
) -> None:
    show_one_progress_line(trainer)
    trainer.add_callback(ShardingCallback(run, trainer))
    trainer.add_callback(LogCallback(Path(run.out)))
    if run.sample_every:
        trainer.add_callback(SampleRolloutsCallback(run, trainer))
    if run.ask_count:
        trainer.add_callback(ValidationCallback(run, processor, model_settings, trainer))


# --- before training ---


def rollout_config(run: RlRun) -> RolloutConfig:
    """Return the rollout configuration of training, the same type as for `ask`."""
    return RolloutConfig(
        operations=run.operations,
        limits=RolloutLimits(max_turns=run.max_turns, max_pictures=NO_LIMIT),
        sampling=SamplingParams(
            max_new_tokens=run.max_new_tokens,
            temperature=run.trl.get("temperature", 1.0),
            top_p=run.trl.get("top_p", 1.0),
            seed=run.trl.get("seed", 42),
        ),
        strict=True,  # rewards of the format must see what the model wrote
    )


def load_questions(run: RlRun, budgets: PixelBudgets | None = None) -> list[Question]:
    """Return all questions of a run. Unusable rows are listed in `dropped.jsonl`.

    Raises:
        InputError: fewer questions than one policy sync needs.
        UsageError: a question without a twin, if calls are compared with those on twins.
    """
    folder = Path(run.out) / "questions"
    has_twins = run.reward.delta_baseline is DeltaBaseline.TWIN
    rows = [row for source in run.questions for row in read_questions(Path(source), folder)]
    dropped = [row for row in rows if isinstance(row, SkippedRow)]
    questions = [row for row in rows if isinstance(row, Question)]
    if run.pixelworld is not None:
        check_trained_world(run.model, run.pixelworld.world)
        questions += world_questions(run.pixelworld, folder, budgets, twin_questions=has_twins)
    if has_twins:
        check_twins(questions)
    if dropped:
        with atomic_writer(Path(run.out) / "dropped.jsonl") as file:
            file.writelines(json.dumps(row._asdict()) + "\n" for row in dropped)
    if len(questions) < run.questions_per_sync:
        counts = Counter(row.reason for row in dropped).items()
        listed = ", ".join(f"{count} {reason}" for reason, count in counts)
        raise InputError(
            expected=f"at least {run.questions_per_sync} questions, the number of one sync",
            got=f"{len(questions)}" + (f" (dropped: {listed})" if listed else ""),
            fix="give more, lower questions_per_sync, or see dropped.jsonl",
        )
    return questions


def question_rows(questions: Iterable[Question]) -> Dataset:
    """Return questions as rows of a data set: TRL passes `prompt` to the rollouts, which need only the question."""
    return Dataset.from_list(list(map(question_row, questions)))
