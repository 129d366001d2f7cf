"""verl agent loop that runs rollouts with visual operations, for verl 0.9 with `trainer.use_v1=True`.

    python -m verl.trainer.main_ppo --config-path examples/verl --config-name pixel_reasoner

A row selects it with `agent_name: pixel_reasoner` and has its question in `extra_info` (`pixel-reasoner export --to
verl`). `actor_rollout_ref.rollout.agent.agent_loop_config_path` names a YAML file that registers it in every worker:

    - name: pixel_reasoner
      _target_: pixel_reasoner.integrations.verl_loop.PixelReasonerLoop
      max_turns: 6

verl's own tools are not used: it creates a tool for every call, cuts results at 256 characters, and returns them as role
`tool`, but our dialects answer as user.

Rewards contain the group term. verl's reward functions see one rollout each, and its advantage estimators see rewards
and masks only. But the rollouts of one question run in one process at the same time, so each waits for the others,
and their reward is that of `train rl`. Use `algorithm.adv_estimator=grpo` and `norm_adv_by_std_in_grpo=False` for the
advantage of `train rl`.

Not supported: chat templates that rewrite earlier turns (verl's rollout is one token sequence), and the deprecated
trainer, which distributes a group over processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register

from pixel_reasoner.errors import UsageError
from pixel_reasoner.integrations.episode import (
    Episode,
    read_question,
    rollout_metrics,
    score_group,
)
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.rewards import RewardConfig, RewardTerms
from pixel_reasoner.train.samples import ConversationTokens, PromptEncoder, TurnPrompt

NO_LIMIT = 10**6
"""maximum pictures per rollout: the token limits end it earlier"""


class Group:
    """Rollouts of one question in this process. All start before the first one finishes.

    Args:
        sizes: possible numbers of rollouts, in training and in validation.
        reward: constants of the reward.
    """

    def __init__(self, sizes: set[int], reward: RewardConfig) -> None:
        self.sizes, self.reward = sizes, reward
        self.traces: list[Trace | None] = []
        self.num_running = 0
        self.is_complete = asyncio.Event()

    def start(self) -> int:
        """Add a rollout and return its number."""
        self.traces.append(None)
        self.num_running += 1
        return len(self.traces) - 1

    def finish(self, number: int, trace: Trace | None) -> None:
        """Set the trace of a rollout; None if it failed."""
        self.traces[number] = trace
        self.num_running -= 1
        if self.num_running == 0:
            self.is_complete.set()

    async def terms(self, number: int) -> dict[str, float]:
        """Return the reward terms of a rollout when all have finished.

        Raises:
            UsageError: the group does not run in this process as a whole.
        """
        await self.is_complete.wait()
        if len(self.traces) not in self.sizes:
            raise UsageError(
                expected=f"{' or '.join(map(str, sorted(self.sizes)))} rollouts of a question in one process",
                got=str(len(self.traces)),
                fix="leave the number of rollouts per question constant",
            )
        finished = [one for one in self.traces if one is not None]
        trace = self.traces[number]
        place = next(n for n, one in enumerate(finished) if one is trace)
        shaped = score_group(finished, self.reward)
        return {
            name.removesuffix("_G"): getattr(shaped, name)[place] for name in RewardTerms._fields
        }


_GROUPS: dict[str, Group] = {}
"""groups in progress, by verl's id of the prompt"""


@register("pixel_reasoner")
class PixelReasonerLoop(AgentLoopBase):
    """Agent loop of one rollout. Arguments with names are keys of the YAML file.

    Args:
        arguments: verl's arguments.
        model: model whose dialect and budgets are used; by default the model that verl trains.
        max_turns: maximum number of model messages.
        max_new_tokens: maximum number of tokens per turn.
        mask_truncated: whether the loss masks truncated rollouts.
        reward: constants of `RewardConfig`.
        options: verl's keyword arguments.
    """

    def __init__(
        self,
        *arguments: Any,
        model: str | None = None,
        max_turns: int = 6,
        max_new_tokens: int = 1024,
        mask_truncated: bool = True,
        reward: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.model = model or self.config.actor_rollout_ref.model.path
        self.rollout = RolloutConfig(
            limits=RolloutLimits(max_turns=max_turns, max_pictures=NO_LIMIT),
            sampling=SamplingParams(max_new_tokens=max_new_tokens),
            strict=True,
        )
        self.mask_truncated = mask_truncated
        self.reward = RewardConfig(**(reward or {}))
        self.encoder = PromptEncoder(
            self.processor, [self.tokenizer.eos_token_id], dict(self.apply_chat_template_kwargs)
        )

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Generate one rollout and return its tokens, pictures and reward.

        Raises:
            InputError: a row without a question, or unusable media.
            UsageError: a template that rewrites earlier turns, or a first prompt that is too long.
        """
        name, sampling = self._group_id(row), self.rollout_config
        group = _GROUPS.setdefault(name, Group({sampling.n, sampling.val_kwargs.n}, self.reward))
        number, trace = group.start(), None
        try:
            rollout = _VerlRollout(self, sampling_params, row)
            trace = await rollout.generate()
        finally:
            group.finish(number, trace)
            _GROUPS.pop(name, None)
        terms = await group.terms(number)
        return rollout.output(trace, terms)

    def _group_id(self, row: Mapping[str, Any]) -> str:
        if "uid" not in row or "session_id" not in row:
            raise UsageError(
                expected="the rollouts of a question in one process",
                got="verl's deprecated trainer, which distributes them",
                fix="set trainer.use_v1=True",
            )
        return str(row["uid"])


class _VerlRollout:
    """Generation of one rollout.

    Args:
        loop: limits, server and processor.
        sampling: verl's sampling parameters.
        row: row of the data set.
    """

    def __init__(
        self, loop: PixelReasonerLoop, sampling: dict[str, Any], row: Mapping[str, Any]
    ) -> None:
        self.loop, self.sampling, self.row = loop, sampling, row
        self.tokens = ConversationTokens(loop.encoder)
        self.pictures: list[Any] = []
        """pictures with placeholders in the token sequence"""
        self.request = uuid4().hex
        self.metrics = {"generate_sequences": 0.0, "tool_calls": 0.0}
        self.extra: dict[str, Any] = {}
        self.episode: Episode | None = None

    async def generate(self) -> Trace:
        """Generate all turns and return the trace."""
        loop = self.loop
        question = read_question(str(self.row["extra_info"]["question"]))
        self.episode = episode = await self._in_thread(
            lambda: Episode(question, loop.model, loop.rollout)
        )
        prompt: TurnPrompt | None = await self._in_thread(
            lambda: self.tokens.next_prompt(episode.messages())
        )
        assert prompt is not None
        if len(prompt.ids) > loop.rollout_config.prompt_length:
            raise UsageError(
                expected=f"prompts of up to {loop.rollout_config.prompt_length} tokens",
                got=f"{len(prompt.ids)} for question {question.id}",
                fix="raise data.max_prompt_length, or lower the pixel budgets of the model",
            )
        self._accept(prompt)
        while prompt is not None:
            await self._turn(prompt)
            prompt = None
            if not episode.is_done:
                prompt = await self._in_thread(self._next_prompt)
        return episode.trace()

    async def _turn(self, prompt: TurnPrompt) -> None:
        """Generate one turn and execute its calls."""
        loop, episode = self.loop, self.episode
        assert episode is not None
        room = loop.rollout_config.response_length - len(self.tokens.sequences[-1].completion_ids)
        limit = min(loop.rollout.sampling.max_new_tokens, room)
        started = loop.loop.time()
        output = await loop.server_manager.generate(
            request_id=self.request,
            prompt_ids=prompt.ids,
            sampling_params={**self.sampling, "max_tokens": limit},
            image_data=self.pictures or None,
        )
        self.metrics["generate_sequences"] += loop.loop.time() - started
        first = self.extra.get("min_global_steps")
        self.extra |= output.extra_fields
        if first is not None:  # weights may change between turns
            self.extra["min_global_steps"] = first
        ids = list(output.token_ids)[:room]
        text = self.tokens.add_turn(ids, list(output.log_probs or [])[: len(ids)])
        is_ended = loop.encoder.is_ended(ids)
        started = loop.loop.time()
        await self._in_thread(lambda: episode.step(text, truncated=not is_ended))
        self.metrics["tool_calls"] += loop.loop.time() - started

    def _next_prompt(self) -> TurnPrompt | None:
        """Return the prompt after a call; None if it is too long, which ends the rollout without the new pictures."""
        assert self.episode is not None
        prompt = self.tokens.next_prompt(self.episode.messages())
        if not prompt.extends:
            raise UsageError(
                expected="a chat template that keeps earlier turns, because verl's rollout is one sequence of tokens",
                got="a template that rewrites them",
                fix="set data.apply_chat_template_kwargs or actor_rollout_ref.model.custom_chat_template",
            )
        num_completion = len(self.tokens.sequences[-1].completion_ids) + prompt.num_new
        if num_completion >= self.loop.rollout_config.response_length:
            return None
        self._accept(prompt)
        return prompt

    def _accept(self, prompt: TurnPrompt) -> None:
        self.tokens.accept(prompt)
        self.pictures = list(prompt.pictures)

    def output(self, trace: Trace, terms: dict[str, float]) -> AgentLoopOutput:
        """Return the rollout in verl's format."""
        (sequence,) = self.tokens.sequences
        cut_off = (StopReason.MAX_NEW_TOKENS, StopReason.MAX_CONTEXT)
        is_masked = self.loop.mask_truncated and trace.stop in cut_off
        has_logprobs = len(sequence.logprobs) == len(sequence.completion_ids)
        metrics = {**terms, **rollout_metrics(trace)}
        return AgentLoopOutput(
            prompt_ids=sequence.prompt_ids,
            response_ids=sequence.completion_ids,
            response_mask=[int(one and not is_masked) for one in sequence.loss_mask],
            response_logprobs=sequence.logprobs if has_logprobs else None,
            multi_modal_data={"images": self.pictures} if self.pictures else {},
            reward_score=sum(terms.values()),
            num_turns=2 * len(trace.turns),
            metrics=self.metrics,
            extra_fields={
                **self.extra,
                "turn_scores": [],
                "tool_rewards": [],
                "reward_extra_info": metrics,
            },
        )

    async def _in_thread(self, function: Any) -> Any:
        """Run a function that decodes or resizes pictures without blocking other rollouts."""
        return await self.loop.loop.run_in_executor(None, function)
