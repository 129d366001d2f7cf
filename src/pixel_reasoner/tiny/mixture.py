"""Mixture of training examples of the language model: how many of which families are in a step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.tiny.examples import Example, ExampleBuilder
from pixel_reasoner.tiny.token_cache import VisualTokens

NUM_EXAMPLES = 84
"""examples of a step"""
SHARES = {"pictures": 4, "clips": 1, "overviews": 2, "pictures_2": 5, "clips_2": 2}
"""Group -> its share of a step; `_2` is PixelWorld 2. Clips are apart because their conversations are longer, and padding
is expensive; overview questions about crowded pictures are, because counting and finding the largest need more examples
than crops do."""
CROWDED_FAMILIES = ("attribute", "count")
CLIP_FAMILIES = ("video", "w2-video", "w2-moments")
HELD_OUT = 0.05
"""share of held-out traces, never used to train the language model"""


class TraceSet(NamedTuple):
    """Traces of one folder, with the visual tokens of their pictures."""

    builder: ExampleBuilder
    tokens: Mapping[Size, VisualTokens]


class Part(NamedTuple):
    """Training traces of one family."""

    source: TraceSet
    numbers: list[int]


def training_part(numbers: list[int]) -> list[int]:
    """Return the numbers of the training traces, without held-out ones.

    >>> training_part(list(range(20)))[-1]
    18
    """
    return numbers[: round(len(numbers) * (1 - HELD_OUT))]


def example_groups(sources: Sequence[TraceSet]) -> dict[str, list[Part]]:
    """Return group -> its families, without groups that have none."""
    groups: dict[str, list[Part]] = {name: [] for name in SHARES}
    for source in sources:
        index = source.builder.index
        for family, numbers in index.families.items():
            kind = "clips" if family in CLIP_FAMILIES else "pictures"
            name = f"{kind}_2" if family.startswith("w2-") else kind
            groups[name].append(Part(source, training_part(numbers)))
        for family in CROWDED_FAMILIES:
            if family in index.overviews:
                groups["overviews"].append(Part(source, training_part(index.overviews[family])))
    return {name: parts for name, parts in groups.items() if parts}


def parts_of_families(
    sources: Sequence[TraceSet], families: Sequence[str]
) -> dict[str, list[Part]]:
    """Return family -> its training traces in each folder, for the named families that there are."""
    parts: dict[str, list[Part]] = {}
    for source in sources:
        for family, numbers in source.builder.index.families.items():
            if family in families:
                parts.setdefault(family, []).append(Part(source, training_part(numbers)))
    return parts


def draw_examples(
    groups: Mapping[str, list[Part]], rng: random.Random, batch_share: float = 1.0
) -> Iterator[tuple[str, list[Example], Mapping[Size, VisualTokens]]]:
    """Yield the examples of one step: group, examples of one trace folder, and its visual tokens.

    Args:
        groups: result of `example_groups`.
        rng: chooses families and traces.
        batch_share: share of `NUM_EXAMPLES`.
    """
    total = sum(SHARES[name] for name in groups)
    for name, parts in groups.items():
        count = max(1, round(NUM_EXAMPLES * batch_share * SHARES[name] / total))
        chosen: dict[int, tuple[TraceSet, list[Example]]] = {}
        for _ in range(count):
            source, numbers = rng.choice(parts)
            examples = chosen.setdefault(id(source.builder), (source, []))[1]
            examples.append(source.builder.draw(rng.choice(numbers), rng))
        for source, examples in chosen.values():
            yield name, examples, source.tokens
