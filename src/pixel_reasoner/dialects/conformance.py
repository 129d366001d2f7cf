"""Conformance test of dialects, and the table of all dialects.

`python -m pixel_reasoner.dialects.conformance docs/dialects.md` tests every dialect with 1,000 random boxes and every grid with
20,000, and writes the table into a page, between its marks. Without a page it prints the table.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pixel_reasoner.dialects import DIALECTS, Dialect, Exchange, ParsedTurn, roles
from pixel_reasoner.dialects.expressible import example_arguments
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import CallErrorKind, Observation, Picture, ToolCall, Turn

NUM_BOXES = 20_000
MARKS = "<!-- dialects -->", "<!-- end of dialects -->"

_ANSWERS = ("red", "B", "3.5 km", "", "a, b", "\\frac{1}{2}", 'she said "no"', "日本")
_NO_BOXES: dict[str, list[Any]] = {
    "inverted": [0.75, 0.25, 0.25, 0.75],
    "empty": [0.5, 0.25, 0.5, 0.75],
    "beyond": [1.5, 1.5, 2.5, 2.5],
}


def distinct_dialects(*, with_grid: bool = True) -> dict[str, Dialect]:
    """Return one dialect for each distinct way to read a turn: syntax, marks of thoughts, answers and, if asked, the grid.

    Tests that read arbitrary texts need only these.

    >>> "smolvlm" in distinct_dialects(), len(distinct_dialects()) < len(DIALECTS)
    (False, True)
    """
    found: dict[Any, Dialect] = {}
    for _, one in sorted(DIALECTS.items()):
        key: list[Any] = [one.syntax, one.thought_tags, one.separates_thoughts, one.opens_thought]
        key += [one.header, one.answer_format, one.picture_names]
        found.setdefault((*key, one.grid if with_grid else None), one)
    return {one.name: one for one in found.values()}


def assert_valid_dialect(dialect: Dialect, boxes: int = 1000, seed: int = 0) -> float:
    """Check all requirements of a rollout on a dialect, with all registered operations.

    Args:
        dialect: registered or not.
        boxes: number of random boxes to write and parse.
        seed: random seed of the boxes.

    Returns:
        The maximum rounding error of a side of a box, in units of the grid; at most 0.5.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> assert_valid_dialect(COMPACT, boxes=100) <= 0.5
    True
    """
    name = dialect.name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name), f"{name!r} is no name for --dialect"
    is_free = name not in DIALECTS or DIALECTS.get(name) is dialect
    assert is_free, f"{name}: the name is taken"
    assert dialect.models, f"{name}: `models` is empty"
    same = [key for key, one in DIALECTS.items() if one.fingerprint == dialect.fingerprint]
    assert same in ([], [name]), f"{name}: its texts are those of {same}"
    _check_listed(dialect)
    _check_grid(dialect)
    _check_marks(dialect)
    _check_messages(dialect)
    _check_answers(dialect)
    _check_calls(dialect)
    _check_rejections(dialect)
    for operation in roles.operation_names():
        if operation not in DEFAULT_OPERATIONS:
            _check_further_operation(dialect, operation)
    return _largest_error(dialect, boxes, random.Random(seed))


def _check_listed(dialect: Dialect) -> None:
    """Check that prompts and native tool definitions list the default operations under their names in calls."""
    with_video = dialect.system_with_video or dialect.system_with_operations
    for operation in DEFAULT_OPERATIONS:
        word = dialect.family_name(operation)
        is_offered = re.search(rf"\b{word}\b", with_video)
        assert is_offered, f"{dialect.name}: {word} is not listed for a video"
    word = dialect.family_name("zoom_in")
    is_offered = re.search(rf"\b{word}\b", dialect.system_with_operations)
    assert is_offered, f"{dialect.name}: {word} is not listed"
    if dialect.tools:
        listed = {tool["function"]["name"] for tool in dialect.tools}
        wanted = {dialect.family_name(operation) for operation in DEFAULT_OPERATIONS}
        assert listed == wanted, f"{dialect.name}: tools are {listed}, calls name {wanted}"
    for tool in dialect.tools:
        _check_definition(dialect, tool)
    has_names = dialect.syntax.has_names or dialect.argument_names
    assert has_names, f"{dialect.name}: calls do not distinguish operations"
    only = dialect.texts(["zoom_in"], has_video=True).system
    assert re.search(rf"\b{word}\b", only), f"{dialect.name}: {word} is not listed alone"
    frames = dialect.family_name("select_frames")
    assert frames not in only, f"{dialect.name}: {frames} is listed although it is disabled"


def _check_definition(dialect: Dialect, tool: ToolDefinition) -> None:
    name, schema = tool["function"]["name"], tool["function"]["parameters"]
    operation = dialect.operation_names.get(name, name)
    own = dialect.family_arguments(operation)
    known = set(schema["properties"])
    assert set(schema["required"]) <= known, f"{dialect.name}: required is not a property"
    is_same = own is None or set(own) == known
    assert is_same, f"{dialect.name}: {operation} takes {known}, not {set(own or ())}"


def _check_grid(dialect: Dialect) -> None:
    """Check that boxes are not in pixels if the model sees tiles, whose picture has no single size."""
    has_size = dialect.grid.per_side is None
    is_possible = not (has_size and dialect.facts.sees_tiles)
    assert is_possible, f"{dialect.name}: pixels of a picture that is cut into tiles"


def _check_marks(dialect: Dialect) -> None:
    """Check that decoding keeps all marks of a turn that may be special tokens."""
    pictures = _pictures(dialect)
    call = ToolCall(name="select_frames", arguments={"target_frames": [1]})
    text = dialect.write_turn("I look.", call, pictures)
    marks = re.findall(r"<[|｜][^<>]*>|<[^<>|]*[|｜]>|\[[A-Z][A-Z_/]+\]", text)
    unlisted = set(marks) - dialect.special_tokens
    assert not unlisted, f"{dialect.name}: special_tokens does not list {sorted(unlisted)}"


def _check_messages(dialect: Dialect) -> None:
    """Check that earlier messages never change, that nothing is omitted, and that braces are kept verbatim."""
    question = Question(
        id="1", text="Is {this} it?", media=(MediaItem(kind="image", path="a.png"),)
    )
    pictures = _pictures(dialect)
    rejected = Observation(text="{braces}", error=CallErrorKind.BAD_BOX)
    crop = Observation(text="", pictures=(pictures[1],))
    frames = Observation(text="", pictures=tuple(p for p in pictures if p.frame and p.parent))
    words = Observation(text="{result}")
    results = ((rejected,), (crop,), (frames,), (words,), (rejected, crop))
    turns = [Turn(text="{a}", observations=one) for one in results]
    prompts = [
        dialect.messages(question, pictures[:1], turns[:count], str)
        for count in range(len(turns) + 1)
    ]
    ended = Exchange(question, pictures[:1], [*turns, Turn(text="{b}")])
    following = dialect.messages(question, pictures[-1:], (), str, history=[ended])
    for shorter, longer in pairwise([*prompts, following]):
        assert longer[: len(shorter)] == shorter, f"{dialect.name}: it changes earlier messages"
    texts = [part.get("text", "") for message in following for part in message["content"]]
    for wanted, what in (
        ("{this}", "the question is not asked"),
        ("{braces}", "an error is not explained"),
        ("{result}", "the text of a result is left out"),
    ):
        assert any(wanted in text for text in texts), f"{dialect.name}: {what}"
    images = [part for message in following for part in message["content"] if "image" in part]
    count = 1 + 1 + len(frames.pictures) + 1 + 1
    assert len(images) == count, f"{dialect.name}: not every picture is shown"
    roles_in_order = [message["role"] for message in following if message["role"] != "system"]
    alternates = all(one != other for one, other in pairwise(roles_in_order))
    assert alternates, f"{dialect.name}: two messages of the same role in a row"


def _check_answers(dialect: Dialect) -> None:
    for answer in _ANSWERS:
        parsed = dialect.parse(dialect.write_turn("I see.", answer=answer))
        is_same = parsed.answer == answer and not parsed.has_attempted_call
        assert is_same, f"{dialect.name}: {answer!r} is parsed as {parsed}"
    for text in ("", "I do not know.", "{", "}"):
        parsed = dialect.parse(text)
        is_nothing = parsed.answer is None and not parsed.has_attempted_call
        assert is_nothing, f"{dialect.name}: {text!r} is neither call nor answer"


def _check_calls(dialect: Dialect) -> None:
    """Check that written calls of the default operations are parsed back, alone and after text."""
    pictures = _pictures(dialect)
    frames = ToolCall(name="select_frames", arguments={"target_frames": [1, 3]})
    text = dialect.write_turn("I look closer.", frames, pictures)
    for known in (pictures, ()):
        parsed = dialect.parse(text, known)
        is_same = parsed.executable_calls == [frames]
        assert is_same, f"{dialect.name}: frames are not parsed back"
    for number in range(1, len(pictures) + 1 if dialect.can_name_pictures else 2):
        arguments = {"bbox_2d": [0, 0, 1, 1], "target_image": number}
        call = ToolCall(name="zoom_in", arguments=arguments)
        parsed = dialect.parse(dialect.write_turn("I look.", call, pictures), pictures)
        assert parsed.executable_calls, f"{dialect.name}: the whole of picture {number} is {parsed}"
        back = parsed.executable_calls[0]
        is_same = (
            back.name == "zoom_in"
            and back.arguments.get("target_image", 1) == number
            and list(back.arguments["bbox_2d"]) == [0, 0, 1, 1]
        )
        assert is_same, f"{dialect.name}: {back} is not {call}"
    too_many = "\n".join([text] * (dialect.max_calls_per_turn + 1))
    wrong = [f"{text} It shows a car.", too_many]
    wrong += [text.replace(dialect.syntax.close, "")] if dialect.syntax.close else []
    for one in wrong:
        parsed = dialect.parse(one, pictures)
        error = parsed.error
        assert error is not None, f"{dialect.name}: {one!r} is accepted as {parsed}"
        assert not parsed.executable_calls, f"{dialect.name}: {one!r} is executed nevertheless"
        _check_sentence(dialect, error.message)
        executed = dialect.parse(one, pictures, strict=False).executable_calls
        is_first = executed in ([], [frames] * len(executed))
        assert is_first, f"{dialect.name}: {one!r} is repaired to {executed}"
    same = dialect.parse(text, pictures, strict=False) == dialect.parse(text, pictures)
    assert same, f"{dialect.name}: a valid call is repaired"


def _check_rejections(dialect: Dialect) -> None:
    """Check that invalid boxes and missing pictures are rejected by the dialect or by the operation."""
    pictures = _pictures(dialect)
    wrong = {
        why: ToolCall(name="zoom_in", arguments={"bbox_2d": numbers, "target_image": 1})
        for why, numbers in _NO_BOXES.items()
    }
    if dialect.can_name_pictures:
        missing = {"bbox_2d": [0.25, 0.25, 0.5, 0.5], "target_image": len(pictures) + 1}
        wrong["no such picture"] = ToolCall(name="zoom_in", arguments=missing)
    for why, call in wrong.items():
        parsed = dialect.parse(dialect.write_call(call, pictures), pictures)
        assert parsed.call is not None, f"{dialect.name}: {why}: the call is lost"
        if parsed.error is not None:
            _check_sentence(dialect, parsed.error.message)
            assert parsed.error.call == 0, f"{dialect.name}: {why}: the error has no call"
        else:
            arguments = parsed.call.arguments
            is_rejected = arguments.get("target_image", 1) > len(pictures)
            is_rejected |= not _is_box(arguments["bbox_2d"])
            assert is_rejected, f"{dialect.name}: {why}: accepted as {parsed.call}"


def _check_sentence(dialect: Dialect, message: str) -> None:
    """Check that an error message contains the mistake and the fix."""
    words = r"\b(give|use|write|call|numbered|source is|must)\b"
    helps = len(message.split()) > 3 and re.search(words, message)
    assert helps, f"{dialect.name}: {message!r} contains no fix"


def _check_further_operation(dialect: Dialect, operation: str) -> None:
    """Check that prompts list another operation, and that its written calls are parsed back."""
    name = dialect.name
    pictures = _pictures(dialect)
    for operations in ([operation], [*DEFAULT_OPERATIONS, operation]):
        texts = dialect.texts(operations, has_video=True)
        word = dialect.family_name(operation)
        assert re.search(rf"\b{word}\b", texts.system), f"{name}: {word} is not listed"
        definitions = dialect.tool_definitions(operations)
        listed = [one["function"]["name"] for one in definitions]
        assert word in listed, f"{name}: {word} is not listed for servers"
    _check_definition(dialect, definitions[-1])
    call = ToolCall(name=operation, arguments=example_arguments(dialect, operation, pictures))
    parsed = dialect.parse(dialect.write_turn("I look.", call, pictures), pictures)
    assert not parsed.errors, f"{name}: {call} is rejected: {parsed.error}"
    assert parsed.executable_calls == [call], f"{name}: {call} is parsed as {parsed.call}"


def _largest_error(dialect: Dialect, boxes: int, rng: random.Random) -> float:
    """Write and parse random boxes of random pictures. Return the maximum error in units of the grid."""
    worst = 0.0
    pictures = _pictures(dialect)
    for turn in range(boxes):
        if turn % 1000 == 0:
            pictures = _pictures(dialect, rng)
        picture = rng.choice(pictures if dialect.can_name_pictures else pictures[:1])
        x1, x2, y1, y2 = (
            *sorted((rng.random(), rng.random())),
            *sorted((rng.random(), rng.random())),
        )
        box = Box(x1, y1, x2, y2)
        arguments = {"bbox_2d": list(box), "target_image": picture.number}
        text = dialect.write_call(ToolCall(name="zoom_in", arguments=arguments), pictures)
        parsed = dialect.parse(text, pictures)
        worst = max(worst, _box_error(dialect, box, text, parsed, picture))
    return worst


def _box_error(
    dialect: Dialect, box: Box, text: str, parsed: ParsedTurn, picture: Picture
) -> float:
    """Return the rounding error of a box after writing and parsing, in units of the grid."""
    sides = dialect.grid.sides(picture.seen_px)
    assert sides is not None, "a picture has a size"
    units = 10**dialect.grid.decimals
    if parsed.error is not None:  # rounded away: the box is thinner than a unit
        thin = min((box.x2 - box.x1) * sides[0], (box.y2 - box.y1) * sides[1]) * units <= 1
        assert thin, f"{dialect.name}: {text} is rejected: {parsed.error.message}"
    assert parsed.call is not None, f"{dialect.name}: {text} is parsed as {parsed}"
    # A box that was rounded away is not padded.
    padding = dialect.padding if _is_box(_numbers(text)) else 0.0
    low, high = _shift(box[:2], -padding), _shift(box[2:], padding)
    worst = 0.0
    for value, expected, side in zip(
        parsed.call.arguments["bbox_2d"], low + high, sides * 2, strict=True
    ):
        error = abs(value - expected) * side * units
        assert error <= 0.5 + 1e-6, f"{dialect.name}: {text}: {expected} came back as {value}"
        worst = max(worst, error)
    return worst


def _numbers(text: str) -> list[float]:
    """Return the numbers of the box in the text of a call."""
    found = re.search(r"\[([-\d., ]+)\]", text)
    assert found is not None, f"{text!r} contains no box"
    return [float(one) for one in found[1].split(",")]


def _shift(corner: Sequence[float], by: float) -> list[float]:
    return [min(1.0, max(0.0, value + by)) for value in corner]


def _is_box(numbers: Any) -> bool:
    try:
        Box.of(numbers)
    except ValueError:
        return False
    return True


def _pictures(dialect: Dialect, rng: random.Random | None = None) -> list[Picture]:
    """Return a picture, two frames of a video, and two results of operations: a crop and a frame."""
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


def as_markdown(boxes: int = NUM_BOXES) -> str:
    """Return the table of all dialects. The random boxes are written and parsed once for each grid."""
    header = (
        *("dialect", "for", "a box is", "pictures are named", "a call", "an answer"),
        "largest error of a box, in units of the grid",
    )
    rows: list[Sequence[str]] = [header, ["---"] * len(header)]
    errors: dict[Any, float] = {}
    for _, dialect in sorted(DIALECTS.items()):
        key = dialect.grid, dialect.padding
        if key not in errors:
            errors[key] = _largest_error(dialect, boxes, random.Random(0))
        rows.append(_row(dialect, errors[key]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(dialect: Dialect, error: float) -> list[str]:
    pictures = _pictures(dialect)
    arguments = {"bbox_2d": [0.25, 0.5, 0.75, 1.0], "target_image": 1}
    call = dialect.write_call(ToolCall(name="zoom_in", arguments=arguments), pictures[:1])
    grid = dialect.grid.words
    grid += ", clamped to the picture" if dialect.grid.clamps else ""
    grid += f", padded by {dialect.padding:.0%}" if dialect.padding else ""
    names = [str(dialect.picture_names.name(number, ())) for number in (1, 2)]
    named = f"{names[0]}, {names[1]}, ..." if dialect.can_name_pictures else "not: it is the first"
    return [
        f"`{dialect.name}`",
        dialect.models,
        grid,
        named,
        f"`{' '.join(call.split())}`".replace("|", "\\|"),
        f"`{dialect.answer_format.write('...')}`",
        f"{error:.3f}",
    ]


def insert_table(page: str, boxes: int = NUM_BOXES) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{as_markdown(boxes)}\n{MARKS[1]}{after}"


if __name__ == "__main__":
    for _, one in DIALECTS.items():
        assert_valid_dialect(one)
    if len(sys.argv) == 1:
        sys.stdout.write(as_markdown() + "\n")
    else:
        path = Path(sys.argv[1])
        text = insert_table(path.read_text(encoding="utf-8"))
        with atomic_writer(path) as file:
            file.write(text)
