"""`GRPOTrainer`, taught to look again: rewards of whole groups, a buffer of references, selective replay.

TRL runs the tool loop over `env.LookAgain`, and computes advantages and losses. Ours are

    the turns       drawn by our engine where it can: what was read stays read (`turns`, `_generate_single_turn`)
    the reward      shaped from whole groups, after they were gathered: a group may straddle processes (`_calculate_rewards`)
    the buffer      rollouts of a policy sync as `RolloutSample` rows, in references and not in pixels: kilobytes a rollout; the pixels
                    of a micro-batch are made anew when it is its turn (`_prepare_inputs`)
    the replay      rollouts of groups without an advantage make room for others of the same sync (`selective_replay`)
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather
from safetensors import SafetensorError
from trl import GRPOTrainer
from trl.trainer.utils import pad

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import OutputError, UsageError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.schema.settings import PixelBudgets, RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Trace, save_traces
from pixel_reasoner.scoring import rewards
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.rollout_source import RolloutSource, can_use_engine
from pixel_reasoner.train.trl_env import (
    TrlToolEnv,
    finished_trace,
    num_pictures_in_context,
    patch_processor,
)

TERMS = ("correctness", "curiosity", "cost")
_PER_TOKEN = (
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
)
_COLUMNS = (
    "correct",
    "counted",
    "executed",
    "refused",
    "turns",
    "is_video",
    "needs_look",
    "answered",
)
"""of the table of rollouts that processes gather"""


class RolloutSample(NamedTuple):
    """One rollout in the buffer. Ids are 32-bit, padding is left off, pictures are references."""

    prompt_ids: torch.Tensor  # (P,)
    completion_ids: torch.Tensor  # (C,)
    trained: torch.Tensor  # (C,) bool: what the model wrote
    per_token: dict[str, torch.Tensor]  # (C,) or (1,) each
    advantage: float
    uniform: bool
    """whether all rollouts of its group have the same reward"""
    trace: Trace
    num_pictures: int
    """how many pictures of the trace stand in the ids"""


class _Measured(NamedTuple):
    """What one generation round tells of its local rollouts, in their order."""

    traces: list[Trace]
    lengths: list[int]
    num_pictures: list[int]
    uniform: list[bool]
    weights: list[float]
    """factors on the advantages"""


class PixelReasonerTrainer(GRPOTrainer):
    """`GRPOTrainer` with rewards of whole groups, a buffer of references, and selective replay."""

    _buffered_inputs: Any
    """TRL's slot for what was rolled out: here lists of `RolloutSample`, one a micro-batch"""

    def __init__(
        self,
        *,
        run: RlRun,
        speaker: FolderSettings,
        rules: RolloutConfig,
        own_rewards: Sequence[rewards.TraceReward] = (),
        **trl: Any,
    ) -> None:
        """Prepare the processor for TRL's tool loop: calls and replies are written as the dialect has them."""
        end = trl["model"].generation_config.eos_token_id
        ends = [end] if isinstance(end, int) else end or []
        patch_processor(trl["processing_class"], speaker.dialect, ends)
        budgets: PixelBudgets = speaker.budgets or get_dialect(speaker.dialect).budgets
        self.run = run
        self.own_rewards = list(own_rewards)
        self.albums = MediaCache()
        self._media = budgets, rules.media
        self.samples: list[Trace] = []
        """rollouts of the last generation round, for whoever wants to look at them"""
        self._measured: _Measured | None = None
        self._drawn: list[list[float]] | None = None
        """logprobs of the rollouts that were drawn last, until TRL asks for them"""
        self._rolling_s = 0.0
        self._seconds: dict[str, float] = defaultdict(float)
        if not trl["args"].use_vllm:
            # TRL forbids a sampled image placeholder alone. One of a video would ask for a video that is not there.
            config, given = trl["model"].config, trl["args"].generation_kwargs or {}
            ids = [getattr(config, f"{kind}_token_id", None) for kind in ("image", "video")]
            never = [*given.get("suppress_tokens", ()), *(one for one in ids if one is not None)]
            trl["args"].generation_kwargs = {**given, "suppress_tokens": never}
        names = [*TERMS, *(name.rpartition(":")[2] for name in run.reward_functions)]
        super().__init__(
            reward_funcs=[_named(name) for name in names],
            environment_factory=partial(TrlToolEnv, speaker, rules, self.albums),
            **trl,
        )
        self._turns = RolloutSource(self) if can_use_engine(self) else None

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """The order of the questions. TRL's goes on from epoch to epoch, and a run that was killed would begin with that of the first."""
        return _EpochOrder(
            super()._get_train_sampler(dataset), lambda: int((self.state.epoch or 0) + 1e-6)
        )

    # --- the buffer ---

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The next micro-batch; before the first one of a policy sync, its rollouts."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            started = time.perf_counter()
            rows = self._replayed(self._rolled_out(generation_batch))
            shuffled = [rows[n] for n in torch.randperm(len(rows)).tolist()]
            self._buffered_inputs = micro_batches(
                shuffled, steps, self.args.gradient_accumulation_steps
            )
            trained = torch.tensor(sum(int(row.trained.sum()) for row in rows))
            self._num_trained = gather(trained.to(self.accelerator.device)).sum()
            self._rolling_s = time.perf_counter() - started
        return self._batch(self._buffered_inputs[self._step % steps])

    def _rolled_out(self, questions: list[dict[str, Any]]) -> list[RolloutSample]:
        """Rollouts of a process's share of the questions, `rollouts_at_once` at a time."""
        size = self.run.rollouts_at_once
        if len(questions) % self.run.group_size:
            size = len(questions)  # a group straddles processes: they must meet at its gathering
        self.samples = []
        rows: list[RolloutSample] = []
        for start in range(0, len(questions), size):
            output = self._generate_and_score_completions(questions[start : start + size])
            measured, self._measured = self._measured, None
            assert measured is not None, "rewards come with every generation round"
            rows += self._rows(output, measured)
            self.samples += measured.traces
        return rows

    def _rows(self, output: dict[str, Any], measured: _Measured) -> Iterator[RolloutSample]:
        for n, trace in enumerate(measured.traces):
            end = measured.lengths[n]
            trained = output["tool_mask"][n, :end].bool()
            if _left_out(trace, self.run):
                trained = torch.zeros_like(trained)
            yield RolloutSample(
                prompt_ids=output["prompt_ids"][n][output["prompt_mask"][n].bool()].int().cpu(),
                completion_ids=output["completion_ids"][n, :end].int().cpu(),
                trained=trained.cpu(),
                per_token={
                    name: output[name][n, :end].clone().cpu()
                    for name in _PER_TOKEN
                    if name in output
                },
                advantage=float(output["advantages"][n]) * measured.weights[n],
                uniform=measured.uniform[n] or not measured.weights[n],
                trace=trace,
                num_pictures=measured.num_pictures[n],
            )

    def _replayed(self, rows: list[RolloutSample]) -> list[RolloutSample]:
        before = self._share_uniform(rows)
        if self.run.replay:
            rank = self.accelerator.process_index
            rng = random.Random(f"replay/{self.args.seed}/{self.state.global_step}/{rank}")
            rows = selective_replay(rows, self.run.replay_exponent, rng)
        self._metrics["train"]["replay/uniform_before"].append(before)
        self._metrics["train"]["replay/uniform_after"].append(self._share_uniform(rows))
        return rows

    def _share_uniform(self, rows: list[RolloutSample]) -> float:
        """Of all processes' rollouts, those in groups of one reward."""
        flags = torch.tensor([float(row.uniform) for row in rows], device=self.accelerator.device)
        return float(gather(flags).mean())

    def _batch(self, rows: list[RolloutSample]) -> dict[str, Any]:
        """Rollouts as the tensors that TRL's loss reads: prompts padded on the left, completions on the right."""
        device = self.accelerator.device
        fill = self._tokenizer.pad_token_id
        prompts = [row.prompt_ids.long() for row in rows]
        completions = [row.completion_ids.long() for row in rows]
        batch: dict[str, Any] = {
            "prompt_ids": pad(prompts, padding_value=fill, padding_side="left"),
            "prompt_mask": pad(
                [torch.ones_like(p) for p in prompts], padding_value=0, padding_side="left"
            ),
            "completion_ids": pad(completions, padding_value=fill, padding_side="right"),
            "completion_mask": pad([torch.ones_like(c) for c in completions], padding_value=0),
            "tool_mask": pad([row.trained.long() for row in rows], padding_value=0),
            "advantages": torch.tensor([row.advantage for row in rows]),
            **{name: pad([row.per_token[name] for row in rows]) for name in rows[0].per_token},
        }
        pictures = [self._pictures(row) for row in rows]
        flat = [picture for some in pictures for picture in some]
        if flat:
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            batch |= self.processing_class.image_processor(images=flat, return_tensors="pt")
            # The name that TRL chooses: Qwen's models, and others, such as Gemma's.
            kinds = "mm_token_type_ids" if "image_grid_thw" in batch else "token_type_ids"
            batch[kinds] = (ids == self._image_pad_token_id).long()
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        if flat:
            batch["num_images"] = [len(some) for some in pictures]
        return batch | {"num_items_in_batch": self._num_trained}

    def _pictures(self, row: RolloutSample) -> list[Any]:
        album = self.albums.open(row.trace.question, *self._media).replay(row.trace)
        return [album.view(number) for number in range(1, row.num_pictures + 1)]

    # --- the reward ---

    def _calculate_rewards(
        self,
        inputs: Any,
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        """(all rollouts, terms): each term of each rollout, shaped from its whole group."""
        del inputs
        traces, pictures = [], []
        for environment, said, ids in zip(
            self.environments, completions, completion_ids_list, strict=True
        ):
            ended = bool(ids) and ids[-1] in self.eos_token_ids
            trace = finished_trace(environment, said, ended=ended)
            traces.append(trace)
            pictures.append(num_pictures_in_context(trace, said))
        # TRL gathers both for a log that nobody reads here, pixels included.
        prompts[:] = [[]] * len(prompts)
        completions[:] = [[]] * len(completions)
        local = torch.tensor([self._measure(trace) for trace in traces], dtype=torch.float64)
        everyone = gather(local.to(self.accelerator.device)).cpu()
        terms, weights = reward_terms(everyone, self.run)
        self._log_rollouts(everyone)
        totals = terms.sum(dim=1).view(-1, self.run.group_size)
        uniform = (totals.amax(dim=1) - totals.amin(dim=1) < 1e-9).repeat_interleave(
            totals.shape[1]
        )
        first = self.accelerator.process_index * len(traces)
        mine = slice(first, first + len(traces))
        self._measured = _Measured(
            traces=traces,
            lengths=[len(ids) for ids in completion_ids_list],
            num_pictures=pictures,
            uniform=uniform[mine].tolist(),
            weights=weights[mine].tolist(),
        )
        return terms.float().to(self.accelerator.device)

    def _measure(self, trace: Trace) -> list[float]:
        """One row of the table that processes gather; its columns are `_COLUMNS` and the user's own rewards."""
        config = self.run.reward
        needs = trace.question.needs_look
        return [
            rewards.correctness(trace, config),
            rewards.num_operations(trace, config),
            len(trace.executed),
            len(trace.rejected),
            len(trace.turns),
            any(medium.kind != "image" for medium in trace.question.media),
            math.nan if needs is None else needs,
            trace.stop is StopReason.ANSWERED,
            *(self._own(function, trace) for function in self.own_rewards),
        ]

    def _own(self, function: rewards.TraceReward, trace: Trace) -> float:
        name = getattr(function, "__name__", "a reward function")
        try:
            value = float(function(trace))
            why = f"{value}"
        except Exception as error:  # noqa: BLE001 - whatever it raises is named, with its trace
            value, why = math.nan, f"{type(error).__name__}: {error}"
        if math.isfinite(value):
            return value
        path = Path(self.run.out) / "failed-reward.jsonl"
        save_traces([trace], path)
        raise UsageError(
            expected=f"a finite number from the reward function {name}",
            got=why,
            fix=f"see the trace in {path}, and run the same command again",
        )

    def _log_rollouts(self, table: torch.Tensor) -> None:
        columns = dict(zip(_COLUMNS, table.T, strict=False))
        looked = columns["executed"] > 0
        calls = columns["executed"] + columns["refused"]
        told = {
            "accuracy": columns["correct"].clamp(min=0),
            "rapr": looked,
            "operations/executed": columns["executed"],
            "operations/attempted": calls,
            "turns": columns["turns"],
            "answered": columns["answered"],
        }
        for kind, value in (("needs_look", 1), ("overview", 0)):
            group = columns["needs_look"] == value
            told[f"rapr/{kind}"] = looked[group]
            told[f"accuracy/{kind}"] = columns["correct"].clamp(min=0)[group]
        metrics = self._metrics["train"]
        for name, values in told.items():
            if len(values):
                metrics[name].append(values.double().mean().item())
        if calls.sum():
            metrics["operations/error_rate"].append((columns["refused"].sum() / calls.sum()).item())

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint; one that does not fit on the disk is never gone on from."""
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # each library has its own way to say it
            raise OutputError(
                expected="a folder with room for a checkpoint",
                got=f"{self.args.output_dir}: {error}",
                fix="free some space and run the same command again: it goes on from the last whole checkpoint",
            ) from error

    # --- time ---

    def _generate(self, prompts: list[Any]) -> Any:
        """TRL's rollouts, timed: `seconds/operations` is what opening pictures and cutting them took."""
        started = time.perf_counter()
        if self._turns is not None:
            self._turns.forget()
        *generated, images, shown = super()._generate(prompts)
        if self._turns is not None:
            self._drawn, generated[4] = generated[4], None
            if self.beta == 0.0:  # nothing reads the pixels of a whole round
                images, shown = None, []
        operated = sum(
            turn.operate_s
            for one in self.environments
            for turn in (one.rollout.turns if one.rollout else ())
        )
        seconds = self._seconds
        seconds["generation"] += time.perf_counter() - started - operated
        seconds["operations"] += operated
        return *generated, images, shown

    def _get_per_token_logps_and_entropies(self, model: Any, *inputs: Any, **more: Any) -> Any:
        """Logprobs of rollouts. Those of the policy that drew them were told when it drew them.

        TRL asks for these first after a round, if minibatches are updated from it one after the other.
        """
        drawn, self._drawn = self._drawn, None
        if drawn is None or not self._misaligned:
            return super()._get_per_token_logps_and_entropies(model, *inputs, **more)
        told = pad([torch.tensor(one) for one in drawn], padding_value=0.0, padding_side="right")
        return told.to(self.accelerator.device), None, None

    @property
    def _misaligned(self) -> bool:
        """Whether rollouts are older than some of the updates that are made from them, as TRL decides it."""
        every = self.args.steps_per_generation * self.num_iterations
        return bool(self.args.gradient_accumulation_steps % every)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        """Ids and pictures of the opening messages."""
        if self._turns is None:
            return super()._tokenize_prompts(prompts)
        return *self._turns.prompts(prompts), {}

    def _generate_single_turn(self, prompt_ids: Any, images: Any, *rest: Any, **more: Any) -> Any:
        """One turn of each rollout, by our engine where it can."""
        if self._turns is None:
            return super()._generate_single_turn(prompt_ids, images, *rest, **more)
        return self._turns.generate(prompt_ids, images)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """One micro-batch; a gradient step's seconds are logged by phase."""
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._seconds = defaultdict(float)
        started = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self._seconds["step"] += time.perf_counter() - started
        if self._step % self.current_gradient_accumulation_steps == 0:
            seconds = self._seconds
            seconds["update"] = seconds["step"] - self._rolling_s
            seconds["other"] = self._rolling_s - seconds["generation"] - seconds["operations"]
            self._rolling_s = 0.0
            for name, value in seconds.items():
                self._metrics["train"][f"seconds/{name}"].append(value)
        return loss


class _EpochOrder:
    """A sampler whose order depends on the seed and the number of the epoch alone."""

    def __init__(self, sampler: Any, epoch: Callable[[], int]) -> None:
        self.sampler, self.epoch = sampler, epoch

    def __iter__(self) -> Iterator[int]:
        """All indexes of an epoch."""
        if self.sampler.shuffle:
            self.sampler.generator.manual_seed(self.sampler.seed + self.epoch())
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


def reward_terms(table: torch.Tensor, run: RlRun) -> tuple[torch.Tensor, torch.Tensor]:
    """The reward terms of gathered rollouts, group by group.

    Args:
        table: (rollouts, columns) of whole groups, in order.
        run: group size and constants.

    Returns:
        terms (rollouts, terms): correctness, curiosity, cost, and the user's own; and weights (rollouts,) on advantages.
    """
    terms, weights = [], []
    own = len(_COLUMNS)
    for group in table.split(run.group_size):
        correct, counted = group[:, 0].tolist(), [int(one) for one in group[:, 1].tolist()]
        shaped = rewards.group_rewards(correct, counted, run.reward, is_video=bool(group[0, 5]))
        terms += [
            [*row, *group[n, own:].tolist()] for n, row in enumerate(zip(*shaped, strict=True))
        ]
        right = sum(one > 0 for one in correct)
        weight = {0: run.unsolved_weight, len(correct): run.solved_weight}.get(right, 1.0)
        weights += [weight] * len(correct)
    return torch.tensor(terms, dtype=torch.float64), torch.tensor(weights)


def selective_replay(
    rows: list[RolloutSample], exponent: float, rng: random.Random
) -> list[RolloutSample]:
    """Selective sample replay (VL-Rethinker, arXiv 2504.08837).

    Rollouts of groups without an advantage are replaced by others of the same sync and process, drawn with
    P ~ |advantage|^exponent. If no group has one, nothing can be drawn and all stay.
    """
    effective = [row for row in rows if not row.uniform and row.advantage]
    if not effective:
        return rows
    weights = [abs(row.advantage) ** exponent for row in effective]
    return [rng.choices(effective, weights)[0] if row.uniform else row for row in rows]


def micro_batches(
    rows: list[RolloutSample], count: int, accumulation: int
) -> list[list[RolloutSample]]:
    """Rollouts as `count` micro-batches. Those of one gradient step are sorted by length: padding costs, their order does not matter."""
    size = len(rows) // count
    batches = []
    for start in range(0, len(rows), size * accumulation):
        step = sorted(rows[start : start + size * accumulation], key=_length)
        batches += [step[first : first + size] for first in range(0, len(step), size)]
    return batches


def _length(row: RolloutSample) -> int:
    return len(row.prompt_ids) + len(row.completion_ids)


def _left_out(trace: Trace, run: RlRun) -> bool:
    """Whether a rollout is left out of the loss for how it ended."""
    cut_off = (StopReason.MAX_NEW_TOKENS, StopReason.MAX_CONTEXT)
    return (run.mask_truncated and trace.stop in cut_off) or (
        run.mask_over_turns and trace.stop is StopReason.MAX_TURNS
    )


def _named(name: str) -> Any:
    """A stand-in by which TRL knows a term's name and weight; the terms are computed for whole groups at once."""

    def term(**_: Any) -> list[float]:
        raise AssertionError(f"{name} is shaped in _calculate_rewards")

    term.__name__ = name
    return term
