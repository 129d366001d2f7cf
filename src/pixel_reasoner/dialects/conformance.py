"""The test of a dialect, for everybody who adds one, and the table of all of them.

`python -m pixel_reasoner.dialects.conformance docs/dialects.md` holds every dialect to it with 100,000 random boxes, and writes the
table into a page, between its marks; without a page it prints it.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pixel_reasoner.dialects import DIALECTS, Answer, Dialect, RejectedCall
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import CallErrorKind, Observation, Picture, ToolCall, Turn

BOXES = 100_000
MARKS = "<!-- dialects -->", "<!-- end of dialects -->"

_ANSWERS = ("red", "B", "3.5 km", "", "a, b", "\\frac{1}{2}", 'she said "no"', "日本")
_NO_BOXES: dict[str, list[Any]] = {
    "inverted": [0.75, 0.25, 0.25, 0.75],
    "empty": [0.5, 0.25, 0.5, 0.75],
    "beyond": [1.5, 1.5, 2.5, 2.5],
}


def assert_valid_dialect(dialect: Dialect, boxes: int = 1000, seed: int = 0) -> float:
    """Hold a dialect to what the loop expects of it.

    Args:
        dialect: in `DIALECTS` or not yet.
        boxes: how many random boxes go through it and back.
        seed: of the boxes.

    Returns:
        The largest distance that a side of a box moved, in units of the dialect's grid; never more than a half.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> assert_valid_dialect(COMPACT, boxes=100) <= 0.5
    True
    """
    assert re.fullmatch(r"[a-z][a-z0-9_]*", dialect.name), (
        f"{dialect.name!r} is no name for --dialect"
    )
    assert DIALECTS.get(dialect.name, dialect) is dialect, f"{dialect.name}: the name is taken"
    assert dialect.models, f"{dialect.name}: it does not say whom it is for"
    alike = [one.name for one in DIALECTS.values() if one.fingerprint == dialect.fingerprint]
    assert alike in ([], [dialect.name]), f"{dialect.name}: says the same as {alike}"
    _offers(dialect)
    _appends(dialect)
    _answers(dialect)
    _calls(dialect)
    _refuses(dialect)
    return _round_trips(dialect, boxes, random.Random(seed))


def _offers(dialect: Dialect) -> None:
    """Every operation is offered by the name that its calls have, in text and to servers."""
    video = dialect.system_video or dialect.system_with
    for operation in DEFAULT_OPERATIONS:
        word = _word(dialect, operation)
        assert re.search(rf"\b{word}\b", video), (
            f"{dialect.name}: {word} is not offered for a video"
        )
    word = _word(dialect, "zoom_in")
    assert re.search(rf"\b{word}\b", dialect.system_with), f"{dialect.name}: {word} is not offered"
    if dialect.tools:
        listed = {tool["function"]["name"] for tool in dialect.tools}
        wanted = {_word(dialect, operation) for operation in DEFAULT_OPERATIONS}
        assert listed == wanted, f"{dialect.name}: tools are {listed}, calls name {wanted}"
    for tool in dialect.tools:
        schema = tool["function"]["parameters"]
        ours = dialect.names.get(tool["function"]["name"], tool["function"]["name"])
        own = dialect.arguments.get(ours)
        known = set(schema["properties"])
        assert set(schema["required"]) <= known, f"{dialect.name}: required is not a property"
        assert own is None or set(own) == known, (
            f"{dialect.name}: {ours} takes {known}, not {set(own)}"
        )
    assert dialect.calls.named or dialect.arguments, (
        f"{dialect.name}: nothing tells operations apart"
    )


def _word(dialect: Dialect, operation: str) -> str:
    """What stands for an operation in a call: its name, or without names what `names` says of it."""
    return next((own for own, ours in dialect.names.items() if ours == operation), operation)


def _appends(dialect: Dialect) -> None:
    """What was said is never said differently later, and braces in what people and operations say are only braces."""
    question = Question(
        id="1", text="Is {this} it?", media=(MediaItem(kind="image", path="a.png"),)
    )
    pictures = _pictures(dialect)
    refused = Observation(text="{braces}", error=CallErrorKind.BAD_BOX)
    shown = Observation(text="", pictures=(pictures[1],))
    frames = Observation(text="", pictures=tuple(p for p in pictures if p.frame and p.parent))
    turns = [Turn(text="{a}", observations=(seen,)) for seen in (refused, shown, frames)]
    told = [
        dialect.messages(question, pictures[:1], turns[:count], str)
        for count in range(len(turns) + 1)
    ]
    for shorter, longer in pairwise(told):
        assert longer[: len(shorter)] == shorter, f"{dialect.name}: it changes what was said"
    texts = [part.get("text", "") for message in told[-1] for part in message["content"]]
    assert any("{this}" in text for text in texts), f"{dialect.name}: the question is not asked"
    assert any("{braces}" in text for text in texts), f"{dialect.name}: a refusal is not explained"
    images = [
        part["image"] for message in told[-1] for part in message["content"] if "image" in part
    ]
    assert len(images) == 2 + len(frames.pictures), f"{dialect.name}: not every picture is shown"


def _answers(dialect: Dialect) -> None:
    for answer in _ANSWERS:
        said = dialect.parse(dialect.write_turn("I see.", answer=answer))
        assert said == Answer(answer), f"{dialect.name}: {answer!r} is read as {said}"
    for text in ("", "I do not know.", "{", "}"):
        assert dialect.parse(text) is None, f"{dialect.name}: {text!r} is neither call nor answer"


def _calls(dialect: Dialect) -> None:
    """Calls of every operation come back, alone and behind words; what follows a call makes it none."""
    pictures = _pictures(dialect)
    frames = ToolCall(name="select_frames", arguments={"target_frames": [1, 3]})
    text = dialect.write_turn("I look closer.", frames, pictures)
    for known in (pictures, ()):
        assert dialect.parse(text, known) == frames, f"{dialect.name}: frames are not read back"
    for number in range(1, len(pictures) + 1 if dialect.names_pictures else 2):
        look = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 1, 1], "target_image": number})
        said = dialect.parse(dialect.write_turn("I look.", look, pictures), pictures)
        assert isinstance(said, ToolCall), (
            f"{dialect.name}: the whole of picture {number} is {said}"
        )
        named = said.arguments.get("target_image", 1)
        assert (said.name, named) == ("zoom_in", number), f"{dialect.name}: {said} is not {look}"
        assert list(said.arguments["bbox_2d"]) == [0, 0, 1, 1], (
            f"{dialect.name}: {said} is not {look}"
        )
    for wrong in (f"{text} It shows a car.", text + text, text.replace(dialect.calls.close, "")):
        said = dialect.parse(wrong, pictures)
        assert isinstance(said, RejectedCall), f"{dialect.name}: {wrong!r} is taken for {said}"
        _sentence(dialect, said.text)


def _refuses(dialect: Dialect) -> None:
    """Numbers that make no box, and pictures that are not there, are refused here or handed on to be refused."""
    pictures = _pictures(dialect)
    wrong = {
        why: ToolCall(name="zoom_in", arguments={"bbox_2d": numbers, "target_image": 1})
        for why, numbers in _NO_BOXES.items()
    }
    if dialect.names_pictures:
        look = {"bbox_2d": [0.25, 0.25, 0.5, 0.5], "target_image": len(pictures) + 1}
        wrong["no such picture"] = ToolCall(name="zoom_in", arguments=look)
    for why, call in wrong.items():
        said = dialect.parse(dialect.write_call(call, pictures), pictures)
        if isinstance(said, RejectedCall):
            _sentence(dialect, said.text)
            assert said.call is not None, f"{dialect.name}: {why}: the call is lost"
        else:
            assert isinstance(said, ToolCall), f"{dialect.name}: {why}: {said}"
            box, number = said.arguments["bbox_2d"], said.arguments.get("target_image", 1)
            refused = number > len(pictures) or not _is_box(box)
            assert refused, f"{dialect.name}: {why}: taken for {said}"


def _sentence(dialect: Dialect, why: str) -> None:
    """A reason says what was wrong and what to do."""
    words = r"\b(give|use|write|call|numbered|source is|must)\b"
    helps = len(why.split()) > 3 and re.search(words, why)
    assert helps, f"{dialect.name}: {why!r} helps nobody"


def _round_trips(dialect: Dialect, boxes: int, rng: random.Random) -> float:
    """Write random boxes of random pictures and read them back; the largest error in units of the grid."""
    worst = 0.0
    pictures = _pictures(dialect)
    for turn in range(boxes):
        if turn % 1000 == 0:
            pictures = _pictures(dialect, rng)
        picture = rng.choice(pictures if dialect.names_pictures else pictures[:1])
        x1, x2, y1, y2 = (
            *sorted((rng.random(), rng.random())),
            *sorted((rng.random(), rng.random())),
        )
        call = ToolCall(
            name="zoom_in", arguments={"bbox_2d": [x1, y1, x2, y2], "target_image": picture.number}
        )
        text = dialect.write_call(call, pictures)
        said = dialect.parse(text, pictures)
        sides = dialect.grid.sides(picture.seen_px)
        assert sides is not None, "a picture has a size"
        units = 10**dialect.grid.decimals
        if isinstance(said, RejectedCall):  # rounded away: it was thinner than a unit
            thin = min((x2 - x1) * sides[0], (y2 - y1) * sides[1]) * units <= 1
            assert thin, f"{dialect.name}: {text} is refused: {said.text}"
            said = said.call
        assert isinstance(said, ToolCall), f"{dialect.name}: {text} is read as {said}"
        # A box that was rounded away is not padded.
        padding = dialect.padding if _is_box(_written(text)) else 0.0
        low, high = _padded((x1, y1), -padding), _padded((x2, y2), padding)
        read = said.arguments["bbox_2d"]
        for value, expected, side in zip(read, low + high, sides * 2, strict=True):
            error = abs(value - expected) * side * units
            assert error <= 0.5 + 1e-6, f"{dialect.name}: {text}: {expected} came back as {value}"
            worst = max(worst, error)
    return worst


def _written(text: str) -> list[float]:
    """The numbers of a call."""
    return [float(one) for one in text.partition("[")[2].partition("]")[0].split(",")]


def _padded(corner: tuple[float, float], by: float) -> list[float]:
    return [min(1.0, max(0.0, value + by)) for value in corner]


def _is_box(numbers: Any) -> bool:
    try:
        Box.of(numbers)
    except ValueError:
        return False
    return True


def _pictures(dialect: Dialect, rng: random.Random | None = None) -> list[Picture]:
    """A picture, two frames of a video, and what operations returned: a crop, and a frame."""
    unit = dialect.budgets.multiple
    made = []
    for number, (frame, parent) in enumerate(
        ((None, None), (1, None), (2, None), (None, 1), (1, 2)), start=1
    ):
        sides = (rng.randint(3, 120), rng.randint(3, 120)) if rng else (20, 15)
        size = sides[0] * unit, sides[1] * unit
        made.append(
            Picture(
                number=number, medium=0, frame=frame, source_px=size, seen_px=size, parent=parent
            )
        )
    return made


def as_markdown(boxes: int = BOXES) -> str:
    """Every dialect that ships, held to the test, as a table."""
    header = (
        *("dialect", "for", "a box is", "pictures are named", "a call", "an answer"),
        "largest error of a box, in units of the grid",
    )
    rows: list[Sequence[str]] = [header, ["---"] * len(header)]
    rows += [_row(dialect, assert_valid_dialect(dialect, boxes)) for dialect in DIALECTS.values()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(dialect: Dialect, error: float) -> list[str]:
    pictures = _pictures(dialect)
    arguments = {"bbox_2d": [0.25, 0.5, 0.75, 1.0], "target_image": 1}
    call = dialect.write_call(ToolCall(name="zoom_in", arguments=arguments), pictures[:1])
    grid = dialect.grid.words
    grid += ", clamped to the picture" if dialect.grid.clamps else ""
    grid += f", padded by {dialect.padding:.0%}" if dialect.padding else ""
    names = [str(dialect.numbering.name(number, 1)) for number in (1, 2)]
    named = f"{names[0]}, {names[1]}, ..." if dialect.names_pictures else "not: it is the first"
    return [
        f"`{dialect.name}`",
        dialect.models,
        grid,
        named,
        f"`{' '.join(call.split())}`",
        f"`{dialect.answers.write('...')}`",
        f"{error:.3f}",
    ]


def in_page(page: str, boxes: int = BOXES) -> str:
    """A page with the table between its marks."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{as_markdown(boxes)}\n{MARKS[1]}{after}"


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.stdout.write(as_markdown() + "\n")
    else:
        path = Path(sys.argv[1])
        text = in_page(path.read_text(encoding="utf-8"))
        with atomic_writer(path) as file:
            file.write(text)
