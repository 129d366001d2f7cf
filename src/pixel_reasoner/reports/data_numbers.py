"""Numbers of training data: kinds, deliberate mistakes, lengths, answers, duplicates. A few small numbers per trace.

Equal questions have the same text and the same pictures. Pictures are equal where their files have the same bytes.
Reasoning is equal where the texts of all messages are, without calls, letter case and white space.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.data.expert import classify_trace
from pixel_reasoner.errors import InputError
from pixel_reasoner.media.access import check_access
from pixel_reasoner.reports.facets import facet_value
from pixel_reasoner.reports.steps import spaced_name
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.trace import Trace, Turn
from pixel_reasoner.scoring.evidence import evidence_hit

MISSES = "shows no evidence"
"""kind of a deliberate mistake whose call was executed"""
NO_MISTAKE = "none"
QUESTION, PICTURE, REASONING = "same question", "same picture in another file", "same reasoning"
NO_DUPLICATE = "none"
MAX_HASHED_BYTES = 64_000_000
"""a larger file is identified by its path"""
_DIGEST_BYTES = 8


class TraceKey(NamedTuple):
    """Hashes by which duplicates are found."""

    question: bytes
    pictures: tuple[tuple[bytes, bytes], ...]
    """content and path of each media file"""
    reasoning: bytes


class KeyReader:
    """Computes the hashes of traces. Each media file is read once; 8 bytes per file are kept."""

    def __init__(self) -> None:
        self._files: dict[bytes, bytes] = {}

    def key(self, trace: Trace) -> TraceKey:
        """Return the hashes of a trace."""
        pictures = tuple(self._picture(item) for item in trace.question.media)
        question = trace.question
        asked = [_normalized(question.text), repr(sorted(question.options.items()))]
        texts = " ".join(_normalized(words_of(turn)) for turn in trace.turns)
        contents = b"".join(content for content, _ in pictures)
        return TraceKey(
            _digest("\n".join(asked).encode("utf-8", "surrogatepass") + contents),
            pictures,
            _digest(texts.encode("utf-8", "surrogatepass")),
        )

    def _picture(self, item: MediaItem) -> tuple[bytes, bytes]:
        place = f"{item.path}\n{item.page}\n{item.start_s}\n{item.end_s}"
        path = _digest(place.encode("utf-8", "surrogatepass"))
        if path not in self._files:
            self._files[path] = _content(item) or path
        return self._files[path], path


class DataNumbers:
    """Counts over all traces of a data set."""

    def __init__(self) -> None:
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self.by_category: dict[str, Counter[str]] = defaultdict(Counter)
        """kind -> category -> traces"""
        self.answers: dict[str, Counter[str]] = defaultdict(Counter)
        """category -> answer -> traces"""
        self.num_overview = 0
        """questions that need no operation"""
        self.num_calls = 0
        self.mistakes: Counter[str] = Counter()
        """kind of mistake -> calls"""
        self.num_with_mistake = 0
        self.num_corrected = 0
        """traces in which a call without a mistake follows the last mistake and shows the evidence"""
        self.chars, self.turns, self.operations = array("l"), array("l"), array("l")
        self.evidence = array("d")
        """area of the evidence as a share of the picture, of traces with boxes"""
        self.versions: Counter[str] = Counter()
        self.duplicates = Duplicates()

    def add(self, trace: Trace, key: TraceKey) -> None:
        """Count a trace."""
        self.count += 1
        kind, category = kind_of(trace), category_of(trace)
        self.kinds[kind] += 1
        self.by_category[kind][category] += 1
        self.answers[category][" or ".join(trace.question.answer) or "none"] += 1
        self.num_overview += trace.question.needs_look is False
        self.num_calls += len(trace.observations)
        self.mistakes.update(mistakes_of(trace))
        has_mistake = any(turn.mistake for turn in trace.turns)
        self.num_with_mistake += has_mistake
        self.num_corrected += has_mistake and is_corrected(trace)
        self.chars.append(sum(len(turn.text) for turn in trace.turns))
        self.turns.append(len(trace.turns))
        self.operations.append(len(trace.executed))
        evidence = trace.question.evidence
        if evidence and evidence.boxes:
            self.evidence.append(sum(box.area for box in evidence.boxes))
        self.versions[trace.versions.get("pixel-reasoner", "unknown")] += 1
        self.duplicates.add(key)


class Duplicates:
    """Counts of equal questions, pictures and reasoning."""

    def __init__(self) -> None:
        self._questions: Counter[bytes] = Counter()
        self._reasoning: Counter[bytes] = Counter()
        self._files: dict[bytes, bytes | None] = {}
        """content -> path; None if several files have this content"""
        self._media: Counter[frozenset[bytes]] = Counter()
        """contents of the media of a trace -> traces"""

    def add(self, key: TraceKey) -> None:
        """Add the hashes of a trace."""
        self._questions[key.question] += 1
        self._reasoning[key.reasoning] += 1
        for content, path in key.pictures:
            known = self._files.setdefault(content, path)
            self._files[content] = path if known == path else None
        self._media[frozenset(content for content, _ in key.pictures)] += 1

    def kinds(self, key: TraceKey) -> tuple[str, ...]:
        """Return which parts of a trace occur in other traces or files. All traces must have been added."""
        found = {
            QUESTION: self._questions[key.question] > 1,
            PICTURE: self._is_copied(content for content, _ in key.pictures),
            REASONING: self._reasoning[key.reasoning] > 1,
        }
        return tuple(name for name, is_found in found.items() if is_found) or (NO_DUPLICATE,)

    @property
    def counts(self) -> dict[str, int]:
        """Number of traces by the value of the filter `duplicate`."""
        return {
            QUESTION: sum(count for count in self._questions.values() if count > 1),
            PICTURE: sum(n for contents, n in self._media.items() if self._is_copied(contents)),
            REASONING: sum(count for count in self._reasoning.values() if count > 1),
        }

    @property
    def num_pictures(self) -> int:
        """Number of different media."""
        return len(self._files)

    @property
    def max_uses(self) -> int:
        """Largest number of traces with the same media."""
        uses: Counter[bytes] = Counter()
        for contents, count in self._media.items():
            uses.update(dict.fromkeys(contents, count))
        return max(uses.values(), default=0)

    def _is_copied(self, contents: Iterable[bytes]) -> bool:
        return any(self._files[content] is None for content in contents)


# --- one trace ---


def kind_of(trace: Trace) -> str:
    """Return the kind of a trace, in words."""
    return facet_value(spaced_name(classify_trace(trace))) or "other"


def category_of(trace: Trace) -> str:
    """Return the category of a question."""
    return facet_value(trace.question.category) or "none"


def mistakes_of(trace: Trace) -> list[str]:
    """Return the kind of each call that is a deliberate mistake: the reason of its rejection, or that it shows no evidence."""
    return [
        f"rejected: {spaced_name(one.error)}" if one.error else MISSES
        for turn in trace.turns
        if turn.mistake
        for one in turn.observations
    ]


def is_corrected(trace: Trace) -> bool:
    """Return whether an executed call follows the last deliberate mistake, and the trace shows its evidence."""
    last = max((n for n, turn in enumerate(trace.turns) if turn.mistake), default=-1)
    is_followed = any(turn.has_executed_call for turn in trace.turns[last + 1 :])
    return is_followed and evidence_hit(trace) is not False


def words_of(turn: Turn) -> str:
    """Return the text of a turn without its calls."""
    texts = [getattr(part, "thought", "") or getattr(part, "text", "") for part in turn.parts]
    return " ".join(texts) if any(texts) else turn.text


# --- histograms ---


class Bin(NamedTuple):
    """Bar of a histogram."""

    label: str
    height: int


def histogram(values: Sequence[float], edges: Sequence[float], labels: Sequence[str]) -> list[Bin]:
    """Return the number of values between each two edges; the last bin contains its upper edge.

    >>> histogram([1, 2, 3], [0, 2, 3], ["under 2", "2 to 3"])
    [Bin(label='under 2', height=1), Bin(label='2 to 3', height=2)]
    """
    last = len(labels) - 1
    counts = Counter(
        next((n for n, edge in enumerate(edges[1:]) if value < edge), last) for value in values
    )
    return [Bin(label, counts[n]) for n, label in enumerate(labels)]


def length_histogram(values: Sequence[int], max_bins: int = 10) -> list[Bin]:
    """Return a histogram with bins of a round width.

    >>> length_histogram([3, 12, 14], max_bins=2)
    [Bin(label='0–9', height=1), Bin(label='10–19', height=2)]
    """
    top = max(values, default=0) + 1
    widths = (scale * step for scale in (10**n for n in range(1, 16)) for step in (1, 2, 5))
    width = next(width for width in widths if width * max_bins >= top)
    edges = list(range(0, top + width, width))
    labels = [f"{low}–{high - 1}" for low, high in pairwise(edges) if low < top]
    return histogram(values, edges, labels)


def count_histogram(values: Sequence[int], most: int, least: int = 0) -> list[Bin]:
    """Return a histogram of whole numbers; the last bin contains all larger ones.

    >>> count_histogram([0, 1, 1, 7], most=2)
    [Bin(label='0', height=1), Bin(label='1', height=2), Bin(label='2 or more', height=1)]
    """
    counts = Counter(min(value, most) for value in values)
    names = range(min([least, *values]), min(most, max(values, default=0)) + 1)
    return [Bin(f"{n} or more" if n == most else str(n), counts[n]) for n in names]


_AREAS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 1.0)


def area_histogram(values: Sequence[float]) -> list[Bin]:
    """Return a histogram of area shares with logarithmic bins."""
    names = [f"{100 * edge:g} %" for edge in _AREAS]
    labels = [f"{low} to {high}" for low, high in pairwise(names)]
    return histogram(values, _AREAS, [f"under {names[1]}", *labels[1:-1], f"over {names[-2]}"])


def _normalized(text: str) -> str:
    return " ".join(text.casefold().split())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _content(item: MediaItem) -> bytes | None:
    """Return a hash of the bytes of a media file; None if it may not be read, is large, or is a folder of frames."""
    path = Path(item.path)
    try:
        check_access(item)
        if not path.is_file() or path.stat().st_size > MAX_HASHED_BYTES:
            return None
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "blake2b").digest()[:_DIGEST_BYTES]
    except (InputError, OSError, ValueError):
        return None
    place = f"{item.page}\n{item.start_s}\n{item.end_s}"
    return _digest(content + place.encode())


def top(counts: Counter[str], most: int) -> Iterator[tuple[str, int]]:
    """Yield the most frequent values, equal counts in alphabetical order."""
    yield from sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:most]
