"""`GRPOTrainer` with multi-turn rollouts, group rewards, a replay buffer of media references, and selective replay.

TRL computes advantages and losses, optimizes and scales. Its `rollout_func` hook calls `RolloutGenerator`. Overrides:

    _prepare_inputs       rollouts of a policy sync become a `ReplayBuffer` of references instead of pixels
    _calculate_rewards    rewards are computed from whole groups after the gather, because a group may span processes
    _get_per_token_...    log-probabilities of rollouts with pixels: TRL's hook passes no images
    _get_train_sampler    the order of questions depends only on the seed and the epoch
    _save_checkpoint      a full disk gives one clear error; the unused questions of asynchronous rollouts are saved
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import EndpointError, PixelReasonerError, UsageError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.patches import without_unused_logit_scale
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import (
    ModelInfo,
    PixelBudgets,
    RolloutConfig,
    RunSettings,
    TrainingInfo,
)
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.rewards import TraceReward
from pixel_reasoner.train import distributed
from pixel_reasoner.train.batches import BatchBuilder, to_device
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.folder import CheckpointErrorsMixin, checkpoint_errors
from pixel_reasoner.train.model_card import ModelCardMixin
from pixel_reasoner.train.monitor.throughput import ThroughputMixin
from pixel_reasoner.train.necessity import NecessityProbe
from pixel_reasoner.train.picture_inputs import suppress_placeholders
from pixel_reasoner.train.refill import refill_samples
from pixel_reasoner.train.replay_buffer import ReplayBuffer, selective_replay, split_micro_batches
from pixel_reasoner.train.rewards_table import (
    GroupRewards,
    RewardTable,
    is_left_out,
    placeholder_reward,
    reward_terms,
    rollout_metrics,
)
from pixel_reasoner.train.rollout_logprobs import RolloutLogprobsMixin
from pixel_reasoner.train.rollouts.asynchronous import AsyncRollouts
from pixel_reasoner.train.rollouts.background import async_rollouts
from pixel_reasoner.train.rollouts.engine_source import RolloutSource, can_use_engine
from pixel_reasoner.train.rollouts.gathered_source import WHOLE_COPY, GatheredSource
from pixel_reasoner.train.rollouts.generator import (
    GeneratedRollout,
    RolloutGenerator,
    TokenLimits,
    TrlTurnSource,
    sampled_logprobs,
)
from pixel_reasoner.train.rollouts.question_order import EpochOrder, question_row
from pixel_reasoner.train.rollouts.turn_source import TurnSource
from pixel_reasoner.train.samples import (
    PromptEncoder,
    RolloutSample,
    token_sequences,
)
from pixel_reasoner.train.sharding.blank_pictures import NEEDS_BLANK
from pixel_reasoner.train.sharding.setup import ShardedHeadMixin
from pixel_reasoner.train.turn_rewards import CallAdvantages, with_call_advantages
from pixel_reasoner.train.vllm.check import ServerInfo
from pixel_reasoner.train.vllm.weights import WeightPublisher

PER_TOKEN = (
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
)
"""per-token values in TRL's output that its loss uses"""
ADVANTAGE = "advantage"
LOGPROB_DIFFERENCE = "sampling/sampling_logp_difference/mean"
"""TRL's metric: mean difference between log-probabilities of vLLM and of the trained model, over all processes"""


class PixelReasonerTrainer(
    ShardedHeadMixin,
    ThroughputMixin,
    CheckpointErrorsMixin,
    ModelCardMixin,
    RolloutLogprobsMixin,
    GRPOTrainer,
):
    """`GRPOTrainer` on rollouts with visual operations.

    Args:
        run: configuration of the run.
        model_settings: dialect and pixel budgets of the model.
        config: limits and operations of a rollout.
        user_rewards: reward functions of the user.
        vllm: properties of the vLLM servers; None for the engine.
        trl: arguments of `GRPOTrainer`; rows of the data set are created with `rl.question_rows`.
    """

    _buffered_inputs: ReplayBuffer | None
    """TRL's attribute for the rollouts of a policy sync"""

    def __init__(
        self,
        *,
        run: RlRun,
        model_settings: FolderSettings,
        config: RolloutConfig,
        user_rewards: Sequence[TraceReward] = (),
        vllm: ServerInfo | None = None,
        **trl: Any,
    ) -> None:
        self.run = run
        self.reward_table = RewardTable(run, user_rewards)
        self.model_settings, self.rollout_config = model_settings, config
        self.samples: list[Trace] = []
        """traces of the last policy sync"""
        self.sample_rewards: list[dict[str, float]] = []
        """reward terms and advantage of each of them, before replay"""
        self._generated: list[GeneratedRollout] = []
        """rollouts that TRL currently scores"""
        self._finished: list[GeneratedRollout] = []
        """asynchronous rollouts that TRL scores next"""
        self._group_rewards: GroupRewards | None = None
        self._uses_sampled_logprobs = False
        self._corrects_sampling = run.max_staleness > 0 or vllm is not None
        """whether the loss has TRL's importance-sampling correction: rollouts are of another policy than the trained one"""
        suppress_placeholders(trl["args"], trl["model"].config)
        _disable_response_parsing(trl["processing_class"].tokenizer)
        with without_unused_logit_scale(trl["model"].config):
            super().__init__(
                reward_funcs=[placeholder_reward(name) for name in self.reward_table.term_names],
                rollout_func=self._generate_rollouts,
                **trl,
            )
        budgets = model_settings.budgets or get_dialect(model_settings.dialect).budgets
        self._settings = _run_settings(self, budgets)
        self.publisher = WeightPublisher(self, run, vllm) if vllm is not None else None
        if self.publisher is not None:
            self.publisher.check_pictures(budgets)
            self.vllm_generation, self._last_loaded_step = self.publisher, -1  # TRL's hook
        self.batches = BatchBuilder(
            self.processing_class,
            budgets,
            config.media,
            add_blank=run.sharding in NEEDS_BLANK,
        )
        self.generator = RolloutGenerator(
            self._turn_source(),
            self._prompt_encoder(),
            model_settings,
            config,
            MediaCache(max_entries=32),
            TokenLimits(self.max_completion_length, _max_context(self.model, vllm)),
        )
        self.probe = self._necessity_probe() if run.probes else None
        self.call_advantages = CallAdvantages(self, run.reward.delta) if run.reward.delta else None
        self._right_without: dict[str, float] | None = None
        if self._corrects_sampling:
            self.use_vllm = True  # TRL's correction and its hook for weights depend on it
        self._async = async_rollouts(self) if run.max_staleness else None

    def _prompt_encoder(self) -> PromptEncoder:
        return PromptEncoder(
            self.processing_class,
            self.eos_token_ids,
            self.chat_template_kwargs,
            get_dialect(self.model_settings.dialect).special_tokens,
        )

    def _necessity_probe(self) -> NecessityProbe:
        if isinstance(self.generator.source, TrlTurnSource):
            raise UsageError(
                expected="a model that the engine or vLLM generates with, for probes",
                got=type(distributed.unwrap_model(self)).__name__,
                fix="set probes to 0",
            )
        config = self.rollout_config.model_copy(update={"operations": ()})
        generator = RolloutGenerator(
            self.generator.source,
            self._prompt_encoder(),
            self.model_settings,
            config,
            self.generator.contexts,
            self.generator.limits,
        )
        return NecessityProbe(generator, self.run.probes)

    def _turn_source(self) -> TurnSource:
        if self.publisher is not None:
            return self.publisher.turn_source()
        if self.run.sharding in WHOLE_COPY:
            return GatheredSource(self)
        return RolloutSource(self) if can_use_engine(self) else TrlTurnSource(self)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """Return the question order. TRL's order continues across epochs, so a resumed run would repeat the first epoch."""
        return EpochOrder(
            super()._get_train_sampler(dataset), lambda: int((self.state.epoch or 0) + 1e-6)
        )

    # --- the replay buffer ---

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """Return the next micro-batch. Before the first one of a policy sync, generate its rollouts."""
        assert self.model.training, "a run has no evaluation data for TRL"
        steps = self.args.steps_per_generation
        step = self._step % (steps * self.num_iterations)
        if step == 0 or self._buffered_inputs is None:
            with self.meter.phase("other"):
                self._fill_buffer(generation_batch, steps)
            if self.publisher is not None:
                self.publisher.sleep()
        assert self._buffered_inputs is not None
        with self.meter.phase("data"):
            batch = self._buffered_inputs.get(step)
        batch = to_device(batch, self.accelerator.device)
        return batch | {"num_items_in_batch": self._num_trained}

    def _fill_buffer(self, questions: list[dict[str, Any]], steps: int) -> None:
        if self._buffered_inputs is not None:
            self._buffered_inputs.close()
        samples = self.generate_samples(questions)
        if self.run.refill:
            samples = refill_samples(self, samples)
        samples = self._replay(samples)
        shuffled = [samples[n] for n in torch.randperm(len(samples)).tolist()]
        self._buffered_inputs = ReplayBuffer(
            split_micro_batches(shuffled, steps, self.args.gradient_accumulation_steps),
            self.batches.loss_batch,
            self.num_iterations,
        )
        self._num_trained = distributed.gather_sum(sum(one.num_trained for one in samples), self)

    def generate_samples(self, rows: list[dict[str, Any]]) -> list[RolloutSample]:
        """Return one sample per row of this process, scored `rollouts_at_once` at a time.

        Asynchronous rollouts are those of other rows, as many as have finished.
        """
        size = self.run.rollouts_at_once
        finished: list[GeneratedRollout] = []
        if self._async is not None:
            finished = self._next_finished(self._async)
            rows = [question_row(one.trace.question) for one in finished]
        if len(rows) % self.run.group_size:
            size = len(rows)  # groups span processes, so every process must gather equally often
        self.samples = []
        samples: list[RolloutSample] = []
        for start in range(0, len(rows), size):
            self._finished = finished[start : start + size]
            if self.publisher is not None:
                self.publisher.wake_up()
            output = self._generate_and_score_completions(rows[start : start + size])
            self._check_logprob_difference()
            samples += self._samples(output)
            self.samples += [one.trace for one in self._generated]
            self._generated = []
        self.sample_rewards = [{**one.rewards, ADVANTAGE: one.advantage} for one in samples]
        return samples

    def _check_logprob_difference(self) -> None:
        """Raise an error if the servers sample from another distribution than the trained model."""
        differences = self._metrics["train"].get(LOGPROB_DIFFERENCE)
        options = self.run.vllm
        if options is None or not differences:
            return
        if not differences[-1] <= options.max_logprob_difference:
            raise EndpointError(
                expected=f"log-probabilities of the vLLM servers within {options.max_logprob_difference:g} of the trained "
                "model's on average (max_logprob_difference under [vllm])",
                got=f"{differences[-1]:.4g} in step {self.state.global_step + 1}",
                fix="restart the servers with the dtype of training, or raise the limit",
            )

    def _samples(self, output: dict[str, Any]) -> Iterator[RolloutSample]:
        """Yield the generated rollouts with TRL's advantages and per-token values."""
        group = self._group_rewards
        assert group is not None, "TRL computes rewards of all rollouts"
        rows = distributed.process_rows(self, len(self._generated))
        terms, weights = group.terms[rows].tolist(), group.weights[rows].tolist()
        uniform = group.is_uniform[rows].tolist()
        values = {name: output[name].cpu() for name in PER_TOKEN if name in output}
        of_calls = self._advantages_of_calls()
        for n, rollout in enumerate(self._generated):
            left_out = is_left_out(rollout.trace, self.run)
            per_token = {name: tensor[n] for name, tensor in values.items()}
            sequences = token_sequences(rollout.sequences, per_token, left_out=left_out)
            if of_calls is not None:
                sequences = with_call_advantages(sequences, of_calls[n])
            yield RolloutSample(
                sequences=sequences,
                trace=rollout.trace,
                rewards=dict(zip(self.reward_table.term_names, terms[n], strict=True)),
                advantage=float(output["advantages"][n]) * weights[n],
                is_uniform=(uniform[n] or not weights[n])
                and not (of_calls and any(map(torch.any, of_calls[n]))),
                group_id=rollout.trace.question.id,
                policy_version=self.state.global_step,
            )

    def _advantages_of_calls(self) -> list[list[torch.Tensor]] | None:
        if self.call_advantages is None:
            return None
        with self.meter.phase("logprobs"):
            return self.call_advantages.of_rollouts(
                self._generated, self.run.group_size, self.args.per_device_train_batch_size
            )

    def _replay(self, samples: list[RolloutSample]) -> list[RolloutSample]:
        before = self._uniform_fraction(samples)
        if self.run.replay:
            rank = self.accelerator.process_index
            rng = random.Random(f"replay/{self.args.seed}/{self.state.global_step}/{rank}")
            samples = selective_replay(samples, self.run.replay_exponent, rng)
        self._metrics["train"]["replay/uniform_before"].append(before)
        self._metrics["train"]["replay/uniform_after"].append(self._uniform_fraction(samples))
        return samples

    def _uniform_fraction(self, samples: Sequence[RolloutSample]) -> float:
        return distributed.gather_mean([float(one.is_uniform) for one in samples], self)

    # --- rollouts ---

    def _generate(self, prompts: list[Any]) -> Any:
        """Generate rollouts. TRL's hook for new weights is for lockstep rollouts on servers alone."""
        if self.publisher is None or self._async is not None:
            self._last_loaded_step = self.state.global_step
        return super()._generate(prompts)

    def _next_finished(self, rollouts: AsyncRollouts) -> list[GeneratedRollout]:
        """Return the asynchronous rollouts of the next policy sync."""
        if not rollouts.is_started:  # a run that resumes
            rollouts.questions.load(self._checkpoint_folder)
        settings = self._current_settings()
        generated = self._generate_together(lambda: rollouts.next_rollouts(settings))
        for name, value in rollouts.metrics.items():
            self._metrics["train"][name].append(value)
        return generated

    def _current_settings(self) -> RunSettings:
        """Return the settings of rollouts of the current policy."""
        training = TrainingInfo(step=self.state.global_step)
        return self._settings.model_copy(update={"training": training})

    def _generate_together(
        self, generate: Callable[[], list[GeneratedRollout]]
    ) -> list[GeneratedRollout]:
        """Return generated rollouts, and measure them. With vLLM servers, an error in one process is raised in all."""
        error, rollouts = None, list[GeneratedRollout]()
        with self.meter.phase("generation"):
            try:
                rollouts = generate()
            except PixelReasonerError as found:
                error = found
            self.meter.add_rollouts(rollouts, is_remote=self.publisher is not None)
        if self.publisher is not None:
            distributed.raise_together(error)
        elif error is not None:
            raise error
        self.meter.wait_for_ranks(self)
        return rollouts

    def _run(self, questions: list[Question], settings: RunSettings) -> list[GeneratedRollout]:
        """Return rollouts of questions, and measure first which of them need no operation."""
        if self.probe is not None:
            self._right_without = self.probe.measure(questions, settings)
        return self.generator.run(questions, settings)

    def _generate_rollouts(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """Return rollouts of the questions that the prompts contain as JSON. This is TRL's `rollout_func`."""
        del trainer
        if self._async is not None:
            self._generated = self._finished
        else:
            questions = [Question.from_line(prompt[0]["content"]) for prompt in prompts]
            settings = self._current_settings()
            self._generated = self._generate_together(partial(self._run, questions, settings))
            if self._right_without is not None:
                shares = [self._right_without[question.id] for question in questions]
                self._metrics["train"]["choice/right_without"].append(
                    distributed.gather_mean(shares, self)
                )
        rows = [one.row for one in self._generated]
        has_logprobs = all(one.has_logprobs for one in self._generated)
        corrects = self._corrects_sampling and has_logprobs
        self._uses_sampled_logprobs = has_logprobs and not corrects and self._is_misaligned
        return {
            "prompt_ids": [row.prompt_ids for row in rows],
            "completion_ids": [row.completion_ids for row in rows],
            "env_mask": [row.loss_mask for row in rows],
            # TRL uses these to correct for the mismatch between the sampling and the trained policy.
            "logprobs": [row.logprobs for row in rows] if corrects else None,
        }

    def _calculate_rewards(
        self, inputs: Any, prompts: list[Any], completions: list[Any], completion_ids_list: Any
    ) -> torch.Tensor:
        """Return the (all rollouts, terms) rewards, computed from whole groups."""
        del inputs, completion_ids_list
        # TRL gathers both for a log that is not used here.
        prompts[:] = [[]] * len(prompts)
        completions[:] = [[]] * len(completions)
        with self.meter.phase("reward"):
            traces = [one.trace for one in self._generated]
            local = self.reward_table.rows(traces, self._right_without)
        table = distributed.gather_rows(local, self)
        self._group_rewards = reward_terms(table, self.run)
        for name, value in rollout_metrics(table).items():
            self._metrics["train"][name].append(value)
        return self._group_rewards.terms.float().to(self.accelerator.device)

    def _get_per_token_logps_and_entropies(self, model: Any, *inputs: Any, **more: Any) -> Any:
        """Return log-probabilities: for a training batch as TRL does, for new rollouts with their pixels."""
        if not self._generated:
            return super()._get_per_token_logps_and_entropies(model, *inputs, **more)
        if self._uses_sampled_logprobs:  # TRL first asks for the logprobs of the sampling policy
            self._uses_sampled_logprobs = False
            logprobs = sampled_logprobs(self._generated)
        else:
            with self.meter.phase("logprobs"):
                logprobs = self.logprobs_of_rollouts(model, self._generated, more["batch_size"])
        return logprobs.to(self.accelerator.device), None, None

    @property
    def _is_misaligned(self) -> bool:
        """Return whether rollouts are older than some updates on them, with TRL's rule."""
        every = self.args.steps_per_generation * self.num_iterations
        return bool(self.args.gradient_accumulation_steps % every)

    # --- steps ---

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train. Asynchronous generation ends with it."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self._async is not None:
                self._async.close()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint. Its last file makes it complete, so the questions are written first."""
        if self._async is not None:
            with checkpoint_errors(self.args.output_dir):
                self._checkpoint_folder.mkdir(parents=True, exist_ok=True)
                self._async.questions.save(self._checkpoint_folder, self._async.unused_numbers)
        super()._save_checkpoint(*args, **kwargs)

    @property
    def _checkpoint_folder(self) -> Path:
        """Folder of a checkpoint of the current step."""
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"


def _run_settings(trainer: PixelReasonerTrainer, budgets: PixelBudgets) -> RunSettings:
    """Return the settings that traces of a run record."""
    model = distributed.unwrap_model(trainer)
    dialect = get_dialect(trainer.model_settings.dialect)
    info = ModelInfo(
        name=trainer.run.model,
        architecture=type(model).__name__,
        parameters=distributed.num_parameters(model),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(trainer.accelerator.device),
    )
    return RunSettings(
        **dict(trainer.rollout_config),
        model=info,
        dialect=dialect.name,
        dialect_hash=dialect.fingerprint,
        budgets=budgets,
    )


def _max_context(model: Any, vllm: ServerInfo | None) -> int:
    limit: int = model.config.get_text_config().max_position_embeddings
    return limit if vllm is None else min(limit, vllm.max_model_len)


def _disable_response_parsing(tokenizer: Any) -> None:
    """Make TRL decode completions as plain text: a dialect parses them, and a single-turn parser fails on several turns."""
    for name in ("response_template", "response_schema"):
        if getattr(tokenizer, name, None) is not None:
            setattr(tokenizer, name, None)
