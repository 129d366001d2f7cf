"""Dialect: prompt and call format of a model family.

A dialect renders a rollout as chat messages (`render`), parses generated turns (`parse`), and converts names and
coordinates of calls (`arguments`). A new dialect is a declaration in its own file. `conformance.assert_valid_dialect` is
its conformance test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pixel_reasoner.dialects.carriage import Message
from pixel_reasoner.dialects.detect import NO_MATCH, ModelMatch
from pixel_reasoner.dialects.facts import NO_FACTS, FamilyFacts
from pixel_reasoner.dialects.render import Exchange, OperationTexts, PromptFormat
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudgets
from pixel_reasoner.schema.trace import Picture

__all__ = ["Dialect", "Exchange", "Message", "OperationTexts"]


@dataclass(frozen=True, kw_only=True)
class Dialect(PromptFormat):
    """Prompt and call format of a model family."""

    name: str
    models: str = ""
    """Models trained on this format."""
    match: ModelMatch = NO_MATCH
    """detection of these models"""
    budgets: PixelBudgets
    """default pixel budgets; budgets of a model folder override them"""
    facts: FamilyFacts = NO_FACTS
    """what is published about the family"""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the dialect adds to a prompt. Runs with equal prompt texts have equal fingerprints.

        >>> from pixel_reasoner.dialects import COMPACT, PIXEL_REASONER
        >>> COMPACT.fingerprint == COMPACT.fingerprint != PIXEL_REASONER.fingerprint
        True
        """
        image = Picture(number=2, medium=0, source_px=(640, 480), seen_px=(320, 256))
        frame = image.model_copy(update={"number": 3, "frame": 1, "time_s": 0.5})
        hashed = [self.name, self.system_with_operations, self.system_without_operations]
        hashed += [self.suffix_with_operations, self.suffix_without_operations]
        hashed += [str(self.padding), self.error_template, *self.operation_names]
        hashed += [self.picture_label(image), self.picture_label(frame)]
        hashed += [*self.result_labels([image], 1), *self.result_labels([frame, frame], 1)]
        # Only non-default values are hashed, so a new field does not change the hashes of other dialects.
        default = Dialect(
            name="",
            budgets=self.budgets,
            system_with_operations="",
            system_without_operations="",
            texts_for=self.texts_for,
            result_labels=self.result_labels,
        )
        both = zip(self._optional_texts, default._optional_texts, strict=True)
        return _hash(hashed + [one for one, usual in both if one != usual])

    @property
    def _optional_texts(self) -> list[str]:
        first, second = (self.picture_names.name(number, ()) for number in (1, 2))
        syntax = self.syntax
        return [
            f"video: {self.system_with_video}",
            f"prefix: {self.question_prefix}",
            f"after: {self.result_end}",
            f"calls: {syntax.open} {syntax.shape} {syntax.close}",
            f"answers: {self.answer_format.write('x')}",
            f"thought: {self.thought_template}",
            f"grid: {self.grid.words}, clamps: {self.grid.clamps}",
            f"pictures: {first} {second}",
            f"arguments: {json.dumps({key: dict(own) for key, own in self.argument_names.items()})}",
            f"calls per turn: {self.max_calls_per_turn}",
            f"carriage: {self.carriage.declared}",
            f"thought tags: {self.thought_tags}, open: {self.opens_thought}",
            f"separators: {self.separators}",
            f"order: {self.grid.order}",
        ]

    def compute_fingerprint(self, operations: bool | Sequence[str]) -> str:
        """Return the hash of everything that the dialect adds to a prompt with these operations.

        Equal to `fingerprint` for the default operations and for no operations.

        Raises:
            UnknownNameError: unknown operation.
        """
        names = self.listed_operations(operations, has_video=True)
        if not names or names == DEFAULT_OPERATIONS:
            return self.fingerprint
        texts = [text for video in (False, True) for text in self.texts(operations, video)]
        return _hash([self.fingerprint, self.text_result_template, *texts])

    @property
    def native_fingerprint(self) -> str:
        """Hash of the texts for native tool calls."""
        return _hash([self.native_system, *(json.dumps(tool) for tool in self.tools)])


def _hash(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
