"""Training examples of the language model: token ids, loss mask, and attention targets of a trace."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from pixel_reasoner.data import wording
from pixel_reasoner.data.wording import fill_template
from pixel_reasoner.dialects import Dialect
from pixel_reasoner.dialects.syntax.hermes import CLOSE, OPEN
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import Picture, Trace, Turn
from pixel_reasoner.tiny.attention import NUMBERING_HEAD, POINTING_HEAD, Head
from pixel_reasoner.tiny.build import CALL_FRAGMENTS
from pixel_reasoner.tiny.pointing import Mention, count_visual_tokens, find_mentions
from pixel_reasoner.tiny.token_cache import PromptImage, TraceIndex

SHARE_WITHOUT_OPERATIONS = 0.1
"""share of examples without available operations, so that the model also learns to answer without them"""
_ASSISTANT = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)
_END = "<|im_end|>"


class Segment(NamedTuple):
    """Piece of a conversation, whether the loss covers it, and the visual tokens of its objects: (picture, token)."""

    text: str
    trained: bool = False
    visual_tokens: tuple[tuple[int, int], ...] = ()


class AttentionTarget(NamedTuple):
    """Target positions for the attention of some tokens."""

    head: Head
    first: int
    """first position: where the first token of a phrase, or of a frame, is predicted"""
    end: int
    """end position (exclusive)"""
    targets: list[int]
    """target positions: visual tokens of the phrase's object, or digits of the frame number"""


class Example(NamedTuple):
    """One conversation as input of the language model."""

    ids: list[int]
    trained: list[bool]
    """whether the loss covers the prediction of a token"""
    in_call: list[bool]
    """whether a token is part of a trained call"""
    images: list[PromptImage]
    attention: list[AttentionTarget]


_Span = tuple[int, int, Segment]
"""positions where the tokens of a segment are predicted: first, and end (exclusive)"""


class ExampleBuilder:
    """Builder of examples from traces.

    Args:
        index: index of the traces.
        processor: processor of the model.
        dialect: prompt format.
        words: share of examples that answer without an operation although operations are available.
    """

    def __init__(
        self, index: TraceIndex, processor: Any, dialect: Dialect, words: float = 0.0
    ) -> None:
        self.index = index
        self.words = words
        self.processor = processor
        self.dialect = dialect
        self._digit_ids = set(processor.tokenizer.convert_tokens_to_ids(list("0123456789")))
        self._image_id = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
        fragments = zip(
            CALL_FRAGMENTS, processor.tokenizer.convert_tokens_to_ids(CALL_FRAGMENTS), strict=True
        )
        numbers = dict(fragments)
        self._opening_ids = {n for text, n in numbers.items() if text.startswith(OPEN)}
        self._closing_ids = {n for text, n in numbers.items() if text.endswith(CLOSE)}

    def draw(self, number: int, rng: random.Random) -> Example:
        """Return the example of a trace: unchanged, or answered without an operation."""
        trace, images = self.index.trace(number), self.index.images(number)
        drawn = rng.random()
        if drawn >= SHARE_WITHOUT_OPERATIONS + self.words:
            return self.example(trace, images)
        offered = drawn >= SHARE_WITHOUT_OPERATIONS
        return self.example(
            without_operations(trace, rng, offered=offered), images[: len(trace.pictures)]
        )

    def example(self, trace: Trace, images: list[PromptImage]) -> Example:
        """Return token ids, loss mask and attention targets of a trace."""
        num_tokens = [rows * columns for rows, columns in (image.grid for image in images)]
        text = self._render(trace, num_tokens)
        ids, trained, spans = self._tokenize(text, list(self.segments(trace, images)))
        starts = [0, *accumulate(num_tokens)]
        visual = [position for position, token in enumerate(ids) if token == self._image_id]
        attention = [
            AttentionTarget(
                POINTING_HEAD,
                first,
                end,
                [visual[starts[picture] + token] for picture, token in segment.visual_tokens],
            )
            for first, end, segment in spans
            if segment.visual_tokens and segment.trained
        ]
        for picture, start, end in zip(trace.pictures, starts, starts[1:], strict=False):
            if picture.frame is not None:
                digits = self._digits_before(ids, visual[start])
                last = visual[end - 1] + 1
                attention.append(AttentionTarget(NUMBERING_HEAD, visual[start], last, digits))
        return Example(ids, trained, self._call_tokens(ids, trained), images, attention)

    def segments(self, trace: Trace, images: Sequence[PromptImage]) -> Iterator[list[Segment]]:
        """Yield the segments of each assistant turn."""
        pictures = list(trace.all_pictures.values())
        grids = {
            picture.number: image.grid for picture, image in zip(pictures, images, strict=False)
        }
        context = list(trace.pictures)
        for turn in trace.turns:
            words, call = turn.text, ""
            if turn.mistake:
                words, tag, call = turn.text.partition(OPEN)
                call = tag + call
            segments = []
            for mention in find_mentions(trace.question, words):
                targets = _target_pictures(mention, turn, context)
                tokens = tuple(
                    (number - 1, token)
                    for number, token in count_visual_tokens(mention, targets, grids)
                )
                segments.append(Segment(mention.text, trained=True, visual_tokens=tokens))
            yield [*segments, Segment(call), Segment(_END, trained=not turn.mistake)]
            for observation in turn.observations:
                context += observation.pictures

    def _render(self, trace: Trace, num_tokens: list[int]) -> str:
        """Return the conversation as text, with one placeholder per visual token."""
        operations = bool(trace.settings.operations)
        messages = self.dialect.messages(
            trace.question, trace.pictures, trace.turns, lambda n: n, operations=operations
        )
        text = self.processor.apply_chat_template(messages, tokenize=False)
        pad = self.processor.image_token
        counts = iter(num_tokens)
        return re.sub(re.escape(pad), lambda _: pad * next(counts), text)

    def _tokenize(
        self, text: str, turns: list[list[Segment]]
    ) -> tuple[list[int], list[bool], list[_Span]]:
        """Return token ids, loss mask, and the positions where the tokens of each segment are predicted."""
        segments: list[Segment] = []
        for number, part in enumerate(_ASSISTANT.split(text)):
            segments += turns[number // 2] if number % 2 else [Segment(part)]
        return tokenize_segments(self.processor.tokenizer, segments)

    def _call_tokens(self, ids: list[int], trained: list[bool]) -> list[bool]:
        """Return which tokens are part of a call that the loss covers, with its opening and closing token."""
        marks, inside = [], False
        for token, is_trained in zip(ids, trained, strict=True):
            inside = is_trained and (inside or token in self._opening_ids)
            marks.append(inside)
            inside = inside and token not in self._closing_ids
        return marks

    def _digits_before(self, ids: list[int], position: int) -> list[int]:
        """Return the positions of the digits of the last number before a position."""
        last = max(at for at in range(position) if ids[at] in self._digit_ids)
        return [at for at in (last - 1, last) if ids[at] in self._digit_ids]


def tokenize_segments(
    tokenizer: Any, segments: Sequence[Segment]
) -> tuple[list[int], list[bool], list[_Span]]:
    """Return token ids, loss mask, and the positions where the tokens of each segment are predicted."""
    ids: list[int] = []
    trained: list[bool] = []
    spans: list[_Span] = []
    for segment in segments:
        more = tokenizer(segment.text)["input_ids"]
        # A token is predicted at the position before its own.
        spans.append((len(ids) - 1, len(ids) + len(more) - 1, segment))
        ids += more
        trained += [segment.trained] * len(more)
    return ids, trained, spans


def _target_pictures(mention: Mention, turn: Turn, context: list[Picture]) -> list[Picture]:
    """Return the pictures that may show the object of a phrase: the picture its call zooms into, or else all."""
    if mention.is_last and turn.call is not None and not turn.mistake:
        target = turn.call.arguments.get("target_image")
        return [picture for picture in context if picture.number == target] or context
    return context


def without_operations(trace: Trace, rng: random.Random, *, offered: bool = False) -> Trace:
    """Return a trace with the same question, answered or guessed in one turn.

    Args:
        trace: with any number of turns.
        rng: chooses the wording of a guess.
        offered: whether operations are available nevertheless.
    """
    evidence = trace.question.evidence
    turns: Sequence[Turn] = trace.turns
    if evidence is not None and trace.question.needs_look:
        guess = fill_template(rng, wording.GUESS, subject=evidence.subjects[0])
        turns = [Turn(text=f"{guess} \\boxed{{{trace.question.answer[0]}}}")]
    operations = DEFAULT_OPERATIONS if offered else ()
    settings = trace.settings.model_copy(update={"operations": operations})
    return trace.model_copy(update={"turns": tuple(turns), "settings": settings})
