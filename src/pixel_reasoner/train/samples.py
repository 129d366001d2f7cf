"""RL samples: token sequences of a rollout, its trace and its rewards.

A rollout is one token sequence as long as each prompt extends the previous prompt and turn. Some chat templates rewrite
the history, for example delete earlier thoughts. Then the next turn's prompt starts a new sequence. The loss mask
covers
the tokens of every turn exactly once: as context of a later turn they are part of a prompt, or masked.

    prompt 1 | turn 1 | result | turn 2                          one sequence, the template extends its prompts
    prompt 1 | turn 1                                            two sequences, the template deletes the thought of
    prompt 2 (turn 1 without its thought, result) | turn 2       turn 1
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from pixel_reasoner.dialects import call_marks
from pixel_reasoner.models.api import Messages, collect_images
from pixel_reasoner.models.local_text import TokenDecoder
from pixel_reasoner.models.processor_inputs import ProcessorInputs, num_grid_tokens
from pixel_reasoner.schema.trace import Trace

CALL_ADVANTAGES = "call_advantages"
"""per-token value: advantage of the tokens of a call, added to the advantage of the rollout"""


class TokenSequence(NamedTuple):
    """One prompt and its completion, without padding. Token ids are 32-bit; pictures are in the trace."""

    prompt_ids: torch.Tensor  # (P,)
    completion_ids: torch.Tensor  # (C,)
    loss_mask: torch.Tensor  # (C,) bool: tokens that the model generated
    per_token: dict[str, torch.Tensor]  # (C,) or (1,) each: log-probabilities and ratios
    num_pictures: int
    """number of trace pictures with placeholders in the ids: pictures 1 to this number"""

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


class RolloutSample(NamedTuple):
    """One rollout in the replay buffer: only kilobytes, because pictures are references."""

    sequences: tuple[TokenSequence, ...]
    trace: Trace
    rewards: dict[str, float]
    """reward terms by name"""
    advantage: float
    is_uniform: bool
    """whether all rollouts of its group have the same reward"""
    group_id: str
    policy_version: int
    """optimizer steps of the policy that generated it"""

    @property
    def num_tokens(self) -> int:
        """Length of its longest sequence."""
        return max(map(len, self.sequences))

    @property
    def num_trained(self) -> int:
        """Number of tokens that the loss covers."""
        return sum(int(one.loss_mask.sum()) for one in self.sequences)


@dataclass(eq=False)
class SequenceDraft:
    """Token sequence during generation."""

    prompt_ids: list[int]
    num_pictures: int
    completion_ids: list[int] = field(default_factory=list)
    loss_mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """per completion token, 0 where the loss mask is False; incomplete if the source has no log-probabilities"""

    @property
    def ids(self) -> list[int]:
        """Prompt and completion."""
        return self.prompt_ids + self.completion_ids

    def add_context(self, ids: Sequence[int], num_pictures: int) -> None:
        """Append tokens that the model did not generate, and set the number of pictures."""
        self._add(ids, [0.0] * len(ids), is_trained=False)
        self.num_pictures = num_pictures

    def add_turn(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Append the tokens of a turn."""
        self._add(ids, logprobs, is_trained=True)

    def _add(self, ids: Sequence[int], logprobs: Sequence[float], *, is_trained: bool) -> None:
        self.completion_ids += ids
        self.loss_mask += [is_trained] * len(ids)
        self.logprobs += logprobs


class TurnPrompt(NamedTuple):
    """Input of the next turn of a conversation."""

    ids: list[int]
    """all tokens, including earlier turns"""
    num_new: int
    """number of trailing ids that extend the current sequence; all ids if the prompt starts a new sequence"""
    pictures: tuple[Any, ...]
    """pictures in placeholder order"""
    text: str
    """conversation rendered with the chat template"""

    @property
    def extends(self) -> bool:
        """Whether the ids start with the current sequence."""
        return self.num_new < len(self.ids)


class PromptEncoder:
    """Encoder of chat messages to token ids, with one placeholder token per visual token.

    Args:
        processor: processor of the model.
        end_tokens: token ids that end a turn.
        template_options: keyword arguments of the chat template.
        kept_special_tokens: special tokens that are part of the text of a turn, such as the tags of calls.
    """

    def __init__(
        self,
        processor: Any,
        end_tokens: Sequence[int],
        template_options: dict[str, Any],
        kept_special_tokens: Iterable[str] = (),
    ) -> None:
        self.processor = processor
        self.inputs = ProcessorInputs(processor)
        self.tokenizer = processor.tokenizer
        self.end_tokens = frozenset(end_tokens)
        self.template_options = template_options
        kept = call_marks() | frozenset(kept_special_tokens)
        self._decode = TokenDecoder(self.tokenizer, kept)

    def render(self, messages: Messages) -> str:
        """Return the prompt text of a conversation."""
        rendered: list[str] = self.processor.apply_chat_template(
            [messages], tokenize=False, add_generation_prompt=True, **self.template_options
        )
        return rendered[0]

    def encode(self, text: str, pictures: Sequence[Any]) -> list[int]:
        """Return the token ids of a prompt with placeholders for these pictures."""
        if self.inputs.has_patch_grid:
            return self._expand(self._tokenize(text), pictures)
        return self.inputs.token_ids(text, pictures)

    def extend(
        self, known: tuple[str, Sequence[Any]], text: str, pictures: Sequence[Any]
    ) -> list[int] | None:
        """Return the token ids that a longer conversation appends; None if it changes those of the conversation so far.

        Some families number the pictures of a prompt, or encode a picture differently if another one follows.

        Args:
            known: text and pictures of the conversation so far.
            text: text of the longer conversation, which starts with the known text.
            pictures: its pictures, which start with the known ones.
        """
        known_text, known_pictures = known
        new_text, new_pictures = text[len(known_text) :], pictures[len(known_pictures) :]
        if not new_pictures:
            return self._tokenize(new_text)
        if self.inputs.has_patch_grid:
            return self._expand(self._tokenize(new_text), new_pictures)
        before, after = (
            self.inputs.token_ids(known_text, known_pictures),
            self.encode(text, pictures),
        )
        return after[len(before) :] if after[: len(before)] == before else None

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated token ids, without the end token."""
        return self._decode(list(ids[:-1] if self.is_ended(ids) else ids))

    def is_ended(self, ids: Sequence[int]) -> bool:
        """Return whether the last token ends a turn."""
        return bool(ids) and ids[-1] in self.end_tokens

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _expand(self, ids: list[int], pictures: Sequence[Any]) -> list[int]:
        if not pictures:
            return ids
        placeholder, image_processor = self.processor.image_token_id, self.processor.image_processor
        assert ids.count(placeholder) == len(pictures), (
            "the template inserts one placeholder per picture"
        )
        remaining, expanded = iter(pictures), list[int]()
        for token in ids:
            repeats = 1
            if token == placeholder:
                repeats = num_grid_tokens(image_processor, next(remaining).size)
            expanded += [token] * repeats
        return expanded


class ConversationTokens:
    """Token sequences of one conversation, turn by turn.

    Generated ids are kept unchanged: a tokenizer might split their text differently.
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        self.encoder = encoder
        self.sequences: list[SequenceDraft] = []
        self._text = ""
        self._pictures: tuple[Any, ...] = ()

    def next_prompt(self, messages: Messages) -> TurnPrompt:
        """Return the input of the next turn. Only `accept` changes the state."""
        text, pictures = self.encoder.render(messages), tuple(collect_images(messages))
        new_ids = None
        if self._is_extended_by(text, pictures):
            new_ids = self.encoder.extend((self._text, self._pictures), text, pictures)
        if new_ids is None:
            ids = self.encoder.encode(text, pictures)
            return TurnPrompt(ids, len(ids), pictures, text)
        current = self.sequences[-1].ids
        if self.encoder.is_ended(current) and self.encoder.is_ended(new_ids[:1]):
            new_ids = new_ids[1:]  # the template repeats the generated end token
        return TurnPrompt(current + new_ids, len(new_ids), pictures, text)

    def accept(self, prompt: TurnPrompt) -> None:
        """Append a prompt to the current sequence if it extends it, or start a new sequence."""
        if prompt.extends:
            new_ids = prompt.ids[len(prompt.ids) - prompt.num_new :]
            self.sequences[-1].add_context(new_ids, len(prompt.pictures))
        else:
            self.sequences.append(SequenceDraft(prompt.ids, len(prompt.pictures)))
        self._text, self._pictures = prompt.text, prompt.pictures

    def add_turn(self, ids: Sequence[int], logprobs: Sequence[float]) -> str:
        """Append a generated turn and return its text."""
        text = self.encoder.decode(ids)
        self.sequences[-1].add_turn(ids, logprobs)
        self._text += text
        return text

    def drop_empty_sequence(self) -> None:
        """Drop the last sequence if it has no generated tokens, unless it is the only one."""
        if len(self.sequences) > 1 and not self.sequences[-1].completion_ids:
            self.sequences.pop()

    def _is_extended_by(self, text: str, pictures: tuple[Any, ...]) -> bool:
        known = len(self._pictures)
        return (
            bool(self.sequences)
            and text.startswith(self._text)
            and len(pictures) >= known
            and all(one is other for one, other in zip(pictures, self._pictures, strict=False))
        )


class TrlRow(NamedTuple):
    """Rollout as TRL's single (prompt, completion) pair: its concatenated sequences.

    TRL pads rows, counts tokens and arranges log-probabilities. It computes no loss on a concatenated row: loss batches
    are built
    from `TokenSequence`s.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    loss_mask: list[int]
    logprobs: list[float]

    @classmethod
    def of(cls, sequences: Sequence[SequenceDraft]) -> TrlRow:
        """Return the row of a rollout.

        >>> first, second = SequenceDraft([1, 2], 0), SequenceDraft([1, 4], 0)
        >>> first.add_turn([3], [-0.5]); second.add_turn([5], [-0.7])
        >>> TrlRow.of([first, second])
        TrlRow(prompt_ids=[1, 2], completion_ids=[3, 1, 4, 5], loss_mask=[1, 0, 0, 1], logprobs=[-0.5, 0.0, 0.0, -0.7])
        """
        joined = SequenceDraft(sequences[0].prompt_ids, 0)
        for number, one in enumerate(sequences):
            if number:
                joined.add_context(one.prompt_ids, 0)
            joined.completion_ids += one.completion_ids
            joined.loss_mask += one.loss_mask
            joined.logprobs += one.logprobs
        mask = [int(is_trained) for is_trained in joined.loss_mask]
        return cls(joined.prompt_ids, joined.completion_ids, mask, joined.logprobs)


def completion_spans(sequences: Sequence[SequenceDraft]) -> list[slice]:
    """Return the position of each sequence's completion in the completion of its `TrlRow`.

    >>> first, second = SequenceDraft([1, 2], 0, [3]), SequenceDraft([1, 4], 0, [5])
    >>> completion_spans([first, second])
    [slice(0, 1, None), slice(3, 4, None)]
    """
    spans, start = [], 0
    for number, one in enumerate(sequences):
        start += len(one.prompt_ids) if number else 0
        spans.append(slice(start, start + len(one.completion_ids)))
        start += len(one.completion_ids)
    return spans


def token_sequences(
    drafts: Sequence[SequenceDraft], per_token: dict[str, torch.Tensor], *, left_out: bool = False
) -> tuple[TokenSequence, ...]:
    """Return the sequences of a rollout as tensors.

    Args:
        drafts: sequences of the rollout.
        per_token: (completion of the row,) values, or (1,) values of the whole rollout.
        left_out: whether the loss masks the rollout.
    """
    return tuple(
        TokenSequence(
            prompt_ids=torch.tensor(draft.prompt_ids, dtype=torch.int32),
            completion_ids=torch.tensor(draft.completion_ids, dtype=torch.int32),
            loss_mask=torch.tensor(draft.loss_mask, dtype=torch.bool) & (not left_out),
            per_token={
                name: (values if len(values) == 1 else values[span]).clone()
                for name, values in per_token.items()
            },
            num_pictures=draft.num_pictures,
        )
        for draft, span in zip(drafts, completion_spans(drafts), strict=True)
    )
