"""Rollouts of the policy in training: `rollout.state.Rollout`, as in `ask`, with the token ids of every turn.

Rollouts advance in rounds: one turn of every unfinished rollout is generated in one batch, then all calls are executed.
The rollout scheduler is not used here, because a round is a function of the random state, the weights and the questions
alone. A batch whose composition depends on the time that an operation takes would give other tokens in each run, and a
run that is resumed from a checkpoint would not repeat the steps of a run that was never stopped.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.train.samples import (
    ConversationTokens,
    PromptEncoder,
    SequenceDraft,
    TrlRow,
    TurnPrompt,
)


class TurnSource(Protocol):
    """Generates one turn for each of several prompts."""

    def clear(self) -> None:
        """Drop everything that was computed with older weights. A new set of rollouts begins."""

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any] | None
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Return the ids of each turn, the end token included, and their log-probabilities where they are known."""
        ...


class TokenLimits(NamedTuple):
    """Limits on the tokens of a rollout, as TRL's tool loop applies them."""

    max_completion: int
    """tokens after the first prompt"""
    max_context: int
    """tokens of the model's context"""


class GeneratedRollout(NamedTuple):
    """A finished rollout and its token sequences."""

    trace: Trace
    sequences: list[SequenceDraft]
    has_logprobs: bool
    """whether the source of its turns returned log-probabilities"""

    @property
    def row(self) -> TrlRow:
        """The rollout as TRL sees it."""
        return TrlRow.of(self.sequences)


@dataclass(eq=False)
class _ActiveRollout:
    rollout: Rollout
    tokens: ConversationTokens
    prompt: TurnPrompt | None = None
    """of the next turn; None when the rollout has stopped"""
    num_first_prompt: int = 0


class RolloutGenerator:
    """Generates the rollouts of questions with one policy.

    Args:
        source: generates turns.
        encoder: of the model's prompts.
        prompting: dialect and pixel budgets of the model.
        config: limits and operations.
        contexts: cache of opened media.
        limits: on tokens.
    """

    def __init__(
        self,
        source: TurnSource,
        encoder: PromptEncoder,
        prompting: FolderSettings,
        config: RolloutConfig,
        contexts: MediaCache,
        limits: TokenLimits,
    ) -> None:
        self.source, self.encoder, self.limits = source, encoder, limits
        self.prompting, self.config = prompting, config
        self.budgets = prompting.budgets or get_dialect(prompting.dialect).budgets
        self.contexts = contexts

    def run(self, questions: Sequence[Question], settings: RunSettings) -> list[GeneratedRollout]:
        """Return one rollout for each question, in order; a question that is repeated gets several.

        Raises:
            InputError: media that cannot be used.
        """
        self.source.clear()
        active = self._begin(questions)
        has_logprobs = True
        while waiting := [one for one in active if one.prompt is not None]:
            has_logprobs = self._round(waiting) and has_logprobs
        for one in active:
            one.tokens.drop_empty_sequence()
        return [
            GeneratedRollout(one.rollout.trace(settings), one.tokens.sequences, has_logprobs)
            for one in active
        ]

    def _begin(self, questions: Sequence[Question]) -> list[_ActiveRollout]:
        active: list[_ActiveRollout] = []
        for number, question in enumerate(questions):
            context = self.contexts.open(question, self.budgets, self.config.media)
            rollout = Rollout(question, self.prompting, self.config, context)
            one = _ActiveRollout(rollout, ConversationTokens(self.encoder))
            if number and question == questions[number - 1]:
                prompt = active[-1].prompt  # all rollouts of a group begin with the same prompt
            else:
                prompt = one.tokens.next_prompt(rollout.messages())
            assert prompt is not None
            one.tokens.accept(prompt)
            one.prompt, one.num_first_prompt = prompt, len(prompt.ids)
            active.append(one)
        return active

    def _round(self, waiting: Sequence[_ActiveRollout]) -> bool:
        """Generate and take one turn of each rollout. Returns whether their log-probabilities are known."""
        started = time.perf_counter()
        prompts = [one.prompt for one in waiting if one.prompt is not None]
        ids, logprobs = self.source.generate(
            [prompt.ids for prompt in prompts],
            [list(prompt.pictures) or None for prompt in prompts],
        )
        seconds = (time.perf_counter() - started) / len(waiting)
        for number, one in enumerate(waiting):
            self._take(one, ids[number], logprobs[number] if logprobs else (), seconds)
        for one in waiting:
            one.prompt = self._next_prompt(one) if one.rollout.stop is None else None
        return logprobs is not None

    def _take(
        self, one: _ActiveRollout, ids: list[int], logprobs: Sequence[float], seconds: float
    ) -> None:
        assert one.prompt is not None
        num_prompt = len(one.prompt.ids)
        if one.rollout.turns:  # as in TRL, the first turn has the limit of a turn alone
            room = self.limits.max_completion - (num_prompt - one.num_first_prompt)
            ids, logprobs = ids[:room], logprobs[:room]
        if not ids:
            one.rollout.stop = StopReason.MAX_CONTEXT
            return
        completion = Completion(
            text=one.tokens.add_turn(ids, logprobs),
            truncated=not self.encoder.is_ended(ids),
            token_ids=array("i", ids),
            logprobs=array("f", logprobs),
            num_prompt_tokens=num_prompt,
        )
        one.rollout.take(completion, seconds)

    def _next_prompt(self, one: _ActiveRollout) -> TurnPrompt | None:
        """Return the prompt after an executed call; None, and the rollout stops, when it is too long."""
        prompt = one.tokens.next_prompt(one.rollout.messages())
        num_completion = len(prompt.ids) - one.num_first_prompt
        if (
            num_completion > self.limits.max_completion
            or len(prompt.ids) >= self.limits.max_context
        ):
            one.rollout.stop = StopReason.MAX_CONTEXT
            return None
        one.tokens.accept(prompt)
        return prompt


class TrlTurnSource:
    """Turns that TRL generates: with vLLM, with sharded weights, or for families that our engine does not support.

    Args:
        trainer: a `GRPOTrainer`.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._is_first_turn = True

    def clear(self) -> None:
        """Treat the next turns as the first of their rollouts."""
        self._is_first_turn = True

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any] | None
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Return the ids of one turn per prompt, the end token included, and vLLM's log-probabilities."""
        # vLLM prefills the prompt of a group once if the request has the number of its repeats.
        num_generations = self.trainer.num_generations if self._is_first_turn else 1
        self._is_first_turn = False
        has_images = images is not None and any(images)
        ids, logprobs = self.trainer._generate_single_turn(
            [list(ids) for ids in prompt_ids],
            images if has_images else None,
            self._image_fields(prompt_ids, images) if has_images else {},
            num_generations,
        )
        if logprobs is not None:  # vLLM's NaN arrives as None
            logprobs = [[math.nan if one is None else one for one in turn] for turn in logprobs]
        return ids, logprobs

    def _image_fields(self, prompt_ids: Sequence[Sequence[int]], images: Any) -> dict[str, Any]:
        """Inputs of `generate` of transformers; vLLM processes images itself."""
        trainer = self.trainer
        if trainer.use_vllm:
            return {}
        flat = [image for some in images for image in some or ()]
        inputs = trainer.processing_class.image_processor(images=flat, return_tensors="pt")
        kinds = [[int(token == trainer._image_pad_token_id) for token in ids] for ids in prompt_ids]
        return {**inputs, token_types_key(inputs): kinds}


def token_types_key(image_inputs: Any) -> str:
    """Return the model's name of the tensor that marks visual tokens: Qwen's models and the others differ.

    >>> token_types_key({"image_grid_thw": None}), token_types_key({})
    ('mm_token_type_ids', 'token_type_ids')
    """
    return "mm_token_type_ids" if "image_grid_thw" in image_inputs else "token_type_ids"


def sampled_logprobs(rollouts: Sequence[GeneratedRollout]) -> torch.Tensor:
    """Return (rollouts, longest completion) log-probabilities of their rows, padded with 0 on the right."""
    rows = [torch.tensor(one.row.logprobs) for one in rollouts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
