"""Rollouts of the policy in training: `rollout.state.Rollout`, as in `ask`, plus the token ids of every turn.

Rollouts advance in rounds: one turn of every unfinished rollout is generated in one batch, then all calls are executed.
The rollout scheduler is not used here, because a round must depend only on the random state, the weights and the
questions.
A batch whose composition depends on the duration of operations would give other tokens in each run, and a resumed run
would not repeat the steps of an uninterrupted one.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.processor_inputs import ProcessorInputs
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.train.rollouts.turn_source import TurnSource
from pixel_reasoner.train.samples import (
    ConversationTokens,
    PromptEncoder,
    SequenceDraft,
    TrlRow,
    TurnPrompt,
)


class TokenLimits(NamedTuple):
    """Token limits of a rollout, with the semantics of TRL's tool loop."""

    max_completion: int
    """maximum tokens after the first prompt"""
    max_context: int
    """maximum tokens of the model's context"""


class GeneratedRollout(NamedTuple):
    """Finished rollout and its token sequences."""

    trace: Trace
    sequences: list[SequenceDraft]
    has_logprobs: bool
    """whether log-probabilities of its turns are available"""

    @property
    def row(self) -> TrlRow:
        """Rollout in TRL's format."""
        return TrlRow.of(self.sequences)


@dataclass(eq=False)
class ActiveRollout:
    """Rollout in progress, with its token sequences."""

    rollout: Rollout
    tokens: ConversationTokens
    prompt: TurnPrompt | None = None
    """prompt of the next turn; None after the rollout has stopped"""
    num_first_prompt: int = 0


class RolloutGenerator:
    """Generator of rollouts with one policy.

    Args:
        source: generates turns.
        encoder: encoder of the model's prompts.
        prompting: dialect and pixel budgets of the model.
        config: limits and operations.
        contexts: cache of opened media.
        limits: token limits.
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
        """Return one rollout per question, in order; a repeated question gets several.

        Raises:
            InputError: unusable media.
        """
        self.source.clear()
        active = self.begin(questions)
        has_logprobs = True
        while waiting := [one for one in active if one.prompt is not None]:
            has_logprobs = self._round(waiting) and has_logprobs
        return [self.finish(one, settings, has_logprobs=has_logprobs) for one in active]

    def begin(self, questions: Sequence[Question]) -> list[ActiveRollout]:
        """Return a new rollout of each question, with its first prompt.

        Raises:
            InputError: unusable media.
        """
        active: list[ActiveRollout] = []
        for number, question in enumerate(questions):
            context = self.contexts.open(question, self.budgets, self.config.media)
            rollout = Rollout(question, self.prompting, self.config, context)
            one = ActiveRollout(rollout, ConversationTokens(self.encoder))
            if number and question == questions[number - 1]:
                prompt = active[-1].prompt  # all rollouts of a group share the first prompt
            else:
                prompt = one.tokens.next_prompt(rollout.messages())
            assert prompt is not None
            one.tokens.accept(prompt)
            one.prompt, one.num_first_prompt = prompt, len(prompt.ids)
            active.append(one)
        return active

    def _round(self, waiting: Sequence[ActiveRollout]) -> bool:
        """Generate and process one turn of each rollout. Returns whether log-probabilities are available."""
        started = time.perf_counter()
        prompts = [one.prompt for one in waiting if one.prompt is not None]
        ids, logprobs = self.source.generate(
            [prompt.ids for prompt in prompts],
            [list(prompt.pictures) or None for prompt in prompts],
        )
        seconds = (time.perf_counter() - started) / len(waiting)
        for number, one in enumerate(waiting):
            self.take_turn(one, ids[number], logprobs[number] if logprobs else (), seconds)
        for one in waiting:
            self.prepare_turn(one)
        return logprobs is not None

    def take_turn(
        self, one: ActiveRollout, ids: list[int], logprobs: Sequence[float], seconds: float
    ) -> None:
        """Append a generated turn to a rollout and execute its calls.

        Args:
            one: rollout with a prompt.
            ids: generated ids, including the end token.
            logprobs: their log-probabilities, if available.
            seconds: generation time.
        """
        assert one.prompt is not None
        num_prompt = len(one.prompt.ids)
        if one.rollout.turns:  # as in TRL, only the turn limit applies to the first turn
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

    def prepare_turn(self, one: ActiveRollout) -> None:
        """Set the prompt of the next turn, or None if the rollout has stopped."""
        one.prompt = self._next_prompt(one) if one.rollout.stop is None else None

    def finish(
        self, one: ActiveRollout, settings: RunSettings, *, has_logprobs: bool
    ) -> GeneratedRollout:
        """Return a stopped rollout."""
        one.tokens.drop_empty_sequence()
        return GeneratedRollout(one.rollout.trace(settings), one.tokens.sequences, has_logprobs)

    def _next_prompt(self, one: ActiveRollout) -> TurnPrompt | None:
        """Return the prompt after an executed call; None if it is too long, which stops the rollout."""
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
    """Turn source that generates with TRL: for sharded weights, or families that the engine does not support.

    Args:
        trainer: a `GRPOTrainer`.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.inputs = ProcessorInputs(trainer.processing_class)
        self._is_first_turn = True

    def clear(self) -> None:
        """Treat the next turns as the first turns of their rollouts."""
        self._is_first_turn = True

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any] | None
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Return the token ids of one turn per prompt, including the end token."""
        num_generations = self.trainer.num_generations if self._is_first_turn else 1
        self._is_first_turn = False
        has_images = images is not None and any(images)
        ids, logprobs = self.trainer._generate_single_turn(
            [list(ids) for ids in prompt_ids],
            images if has_images else None,
            self._image_fields(prompt_ids, images or ()) if has_images else {},
            num_generations,
        )
        return ids, logprobs

    def _image_fields(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any]
    ) -> dict[str, Any]:
        """Return image inputs of transformers' `generate`."""
        tensors = self.inputs.picture_tensors([list(some or ()) for some in images])
        return tensors | self.inputs.per_token_inputs(prompt_ids)


def token_type_ids_name(image_inputs: Any) -> str:
    """Return the model's name for the tensor that marks visual tokens: Qwen models use another name.

    >>> token_type_ids_name({"image_grid_thw": None}), token_type_ids_name({})
    ('mm_token_type_ids', 'token_type_ids')
    """
    return "mm_token_type_ids" if "image_grid_thw" in image_inputs else "token_type_ids"


def sampled_logprobs(rollouts: Sequence[GeneratedRollout]) -> torch.Tensor:
    """Return (rollouts, longest completion) log-probabilities of their rows, padded with 0 on the right."""
    rows = [torch.tensor(one.row.logprobs) for one in rollouts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
