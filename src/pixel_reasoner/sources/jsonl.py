"""Own rows: JSONL files with one question per line.

A row has `question`, `answer` (a text, or a list of accepted ones) and its media: `image`, `images`, `video` or `videos` (paths
relative to the file, or URLs), or `media` (`[{"type": "image|video|frames", "path", "start", "end", "fps", "page"}]`). docs/synthesize.md explains
all keys. Rows of InSight-o3's benchmarks are accepted too. A row with `text` is a `Question` in this project's format.

A row is accepted completely or skipped with a reason: null is a missing value, and unknown keys are errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.schema.media_url import join_media
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question, with_media_root
from pixel_reasoner.sources.base import MEDIA, SOURCES, FileSource
from pixel_reasoner.sources.boxes import (
    BoxFormat,
    BoxUnit,
    Units,
    boxes_on_picture,
    frames_at,
    parse_frames,
)
from pixel_reasoner.sources.cells import (
    is_missing,
    missing_value_error,
    optional_text,
    parse_answers,
    parse_letter,
    parse_number,
    parse_options,
    parse_text,
    parse_whole_number,
    strip_placeholders,
)
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    data_files,
    json_object,
    try_build,
    with_options,
)

ANSWER_TYPES = {
    **{str(kind): kind for kind in AnswerType},
    "mcq": AnswerType.CHOICE,
    "int": AnswerType.INTEGER,
    "free": AnswerType.TEXT,
}
MEDIA_KEYS = ("image", "images", "video", "videos", "media")
UNIT_KEYS = ("box_unit", "box_format", "frame_base")
ROW_KEYS = (
    *("id", "benchmark", "split", "category", "group", *MEDIA_KEYS, "question", "prompt_suffix"),
    *("options", "answer", "answer_type", "boxes", "frames", "times", *UNIT_KEYS),
    *("subjects", "findings", "needs_look", "reasoning"),
)
VALID_ROW = '{"image": "a.jpg", "question": "What does the sign say?", "answer": "Exit"}'
_MEDIUM_KEYS = ("type", "path", "start", "end", "fps", "page")


class OwnRows(FileSource):
    """Base class of sources of own rows. The options are the default units of rows."""

    box_unit: BoxUnit = BoxUnit.PIXEL
    box_format: BoxFormat = BoxFormat.XYXY
    frame_base: Literal[0, 1] = 1
    media_root: str | None = None
    """URL that relative media paths of rows are relative to; None: the folder of the file"""

    @property
    def units_of_rows(self) -> Units:
        """Default units of rows."""
        return Units(box_unit=self.box_unit, box_format=self.box_format, frame_base=self.frame_base)


class JsonlSource(OwnRows):
    """Own rows: a `.jsonl` file, or all such files of a folder."""

    name: ClassVar[str] = "jsonl"
    summary: ClassVar[str] = "own rows: a JSONL file, or all of a folder"

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all files."""
        for path in data_files(self.data, "*.jsonl"):
            for number, line in numbered_lines(path, "a JSONL file with one row a line"):
                build = partial(
                    _question_of_line,
                    line,
                    self.media_root or path.parent,
                    name=f"{path.stem}-{number}",
                    units=self.units_of_rows,
                    pictures=folder / MEDIA,
                )
                yield try_build(f"{path.name}, line {number}", build)


SOURCES.register(JsonlSource.name, JsonlSource)


def _question_of_line(line: str, folder: Path | str, **options: Any) -> Question:
    return question_of_row(json_object(line), folder, **options)


def question_of_row(
    row: Mapping[str, Any],
    folder: Path | str,
    *,
    name: str | None = None,
    units: Units | None = None,
    pictures: Path | None = None,
    needs_answer: bool = True,
) -> Question:
    """Return the question of a row.

    Args:
        row: as this module describes.
        folder: folder or URL that relative paths are relative to.
        name: id of a row without the key `id`; None: the key is required.
        units: of boxes and frames, where the row does not state them.
        pictures: folder for pictures whose bytes are in the row; None: there are only paths.
        needs_answer: whether a row without an answer is an error.

    Raises:
        RowError: a row of another form.
        ValidationError: a value of another form.

    >>> row = {"id": 1, "image": "a.png", "question": "How many?", "answer": 2}
    >>> question_of_row(row, Path("here")).media[0].path
    'here/a.png'
    """
    if "text" in row and "question" not in row and not set(MEDIA_KEYS[:-1]) & set(row):
        return _question_as_written(row, folder)
    row = _with_our_names(row)
    _check_keys(row, needs_id=name is None, needs_answer=needs_answer)
    row = {"id": name} | {key: value for key, value in row.items() if not is_missing(value)}
    media = _media(row, folder, pictures)
    return Question.model_validate(_fields(row, media, _units(row, units or Units())))


def _question_as_written(row: Mapping[str, Any], folder: Path | str) -> Question:
    """Return a question in this project's format. Arrow writes null for keys that only other rows have."""
    if is_missing(row["text"]):
        raise missing_value_error("text")
    try:
        question = Question.from_object({k: v for k, v in row.items() if v is not None})
    except InputError as error:
        raise RowError("bad_value", error.got) from error
    return with_media_root(question, folder)


def _with_our_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of InSight-o3's benchmarks (question_id, file_name, subset) with our keys."""
    ours = {"question_id": "id", "subset": "category", "file_name": "image"}
    renamed = {name: ours[name] for name in row if name in ours and ours[name] not in row}
    return {renamed.get(name, name): value for name, value in row.items()}


def _check_keys(row: Mapping[str, Any], *, needs_id: bool, needs_answer: bool) -> None:
    """Check that a row has the required keys with values, and no unknown ones."""
    media_keys = [key for key in MEDIA_KEYS if key in row]
    wanted = ["id"] * needs_id + ["question"] + ["answer"] * needs_answer
    absent = [key for key in wanted if key not in row]
    if absent or not media_keys:
        absent += [] if media_keys else [" or ".join(MEDIA_KEYS)]
        detail = (
            f"no {', no '.join(absent)} among {' '.join(map(str, row))}; a valid row: {VALID_ROW}"
        )
        raise RowError("missing_keys", detail)
    for key in ("id", "question", *(["answer"] * needs_answer)):
        if key in row and is_missing(row[key]):
            raise missing_value_error(key)
    if all(is_missing(row[key]) for key in media_keys):
        raise missing_value_error(media_keys[0])
    unknown = sorted(key for key in row if key not in ROW_KEYS and not is_missing(row[key]))
    if unknown:
        raise RowError("unknown_keys", f"expected {' '.join(ROW_KEYS)}; got {' '.join(unknown)}")


def _units(row: Mapping[str, Any], units: Units) -> Units:
    """Return the units of a row; the default units if it has none."""
    stated = {key: row[key] for key in UNIT_KEYS if key in row}
    return Units.model_validate(units.model_dump() | stated) if stated else units


# --- question and answer ---


def _fields(row: Mapping[str, Any], media: list[MediaItem], units: Units) -> dict[str, Any]:
    """Return the fields of the `Question` of a row without missing values."""
    options = parse_options(row.get("options"))
    text = strip_placeholders(parse_text(row["question"], "question"), len(media))
    texts = {
        key: parse_text(row[key], key) for key in ("category", "group", "reasoning") if key in row
    }
    return {
        "id": parse_text(row["id"], "id"),
        "text": with_options(text, options)
        + optional_text(row.get("prompt_suffix"), "prompt_suffix"),
        "media": media,
        "answer": _answers(row, options),
        "answer_type": _answer_type(row, options),
        "options": options,
        "evidence": _evidence(row, media, units),
        **texts,
        **({"needs_look": row["needs_look"]} if "needs_look" in row else {}),
    }


def _answers(row: Mapping[str, Any], options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accepted answers, as letters for a choice."""
    if "answer" not in row:
        return ()
    if not options:
        return parse_answers(row["answer"])
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    letters = tuple(parse_letter(answer, options) for answer in answers)
    if not letters:
        raise missing_value_error("answer")
    if len(options) < 2:
        raise RowError("no_options", f"expected two options or more; got {dict(options)}")
    return letters


def _answer_type(row: Mapping[str, Any], options: Mapping[str, str]) -> AnswerType:
    name = row.get("answer_type") or ("choice" if options else "text")
    if name not in ANSWER_TYPES:
        raise RowError("unknown_answer_type", f"expected {', '.join(ANSWER_TYPES)}; got {name!r}")
    kind = ANSWER_TYPES[name]
    if options and kind is not AnswerType.CHOICE:
        raise RowError("bad_options", f"expected the answer_type choice for options; got {name}")
    return kind


# --- evidence ---


def _evidence(
    row: Mapping[str, Any], media: list[MediaItem], units: Units
) -> dict[str, Any] | None:
    """Return the fields of the `Evidence` of a row; None without evidence."""
    has_media_list = any(key in row for key in MEDIA_KEYS[1:])
    image = parse_whole_number(row["image"], "image") if has_media_list and "image" in row else 1
    boxes = boxes_on_picture(row.get("boxes"), image, media, units)
    frames = parse_frames(row.get("frames", ()), units)
    if row.get("times"):
        if len(media) != 1 or frames:
            raise RowError("bad_evidence", "expected times of one video without frames; got both")
        frames = frames_at(media[0], [parse_number(one, "times") for one in row["times"]])
    words = {key: parse_answers(row[key], key) for key in ("subjects", "findings") if row.get(key)}
    for key, texts in words.items():
        if len(texts) != (len(boxes) or bool(frames)):
            detail = f"{key}: expected one for each of {len(boxes)} boxes, or one for all frames"
            raise RowError("bad_evidence", f"{detail}; got {len(texts)}")
    if not boxes and not frames:
        return None
    return {"boxes": boxes, "image": image, "frames": frames, **words}


# --- media ---


def _media(row: Mapping[str, Any], folder: Path | str, pictures: Path | None) -> list[MediaItem]:
    """Return the media of a row, from the only media key of the row."""
    keys = [key for key in MEDIA_KEYS if key in row]
    # `image` is a picture number in a row with media under another key.
    if "image" in keys and len(keys) > 1 and ("media" in keys or not _is_media(row["image"])):
        keys.remove("image")
    if len(keys) != 1:
        raise RowError(
            "bad_medium", f"expected one of {' '.join(MEDIA_KEYS)}; got {' '.join(keys)}"
        )
    (key,) = keys
    items = row[key] if isinstance(row[key], list) else [row[key]]
    if key == "media":
        return [_medium(one, folder) for one in items]
    if key.startswith("video"):
        return [_video(one, folder) for one in items]
    from pixel_reasoner.sources.pictures import load_picture  # loads media libraries

    return [load_picture(one, folder, pictures) for one in items]


def _is_media(value: Any) -> bool:
    return isinstance(value, str | bytes | list | Mapping)


def _video(path: Any, folder: Path | str) -> MediaItem:
    if not isinstance(path, str) or is_missing(path):
        raise RowError("bad_medium", f"expected the path of a video; got {type(path).__name__}")
    return MediaItem(kind="video", path=join_media(folder, path))


def _medium(one: Any, folder: Path | str) -> MediaItem:
    if not isinstance(one, dict) or not isinstance(one.get("path"), str) or is_missing(one["path"]):
        shown = json.dumps(one, default=str)[:200]
        raise RowError("bad_medium", f'expected {{"type": ..., "path": ...}}; got {shown}')
    one = {key: value for key, value in one.items() if not is_missing(value)}
    if unknown := sorted(set(one) - set(_MEDIUM_KEYS)):
        detail = f"media: expected {' '.join(_MEDIUM_KEYS)}; got {' '.join(unknown)}"
        raise RowError("unknown_keys", detail)
    seconds = {
        key: parse_number(one[key], f"media.{key}") for key in ("start", "end") if key in one
    }
    start_s, end_s = seconds.get("start", 0.0), seconds.get("end")
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise RowError("bad_medium", f"expected 0 <= start < end; got {start_s:g} and {end_s}")
    fields = {"kind": one.get("type", "image"), "path": join_media(folder, one["path"])}
    return MediaItem.model_validate(
        fields
        | {"start_s": start_s, "end_s": end_s, "fps": one.get("fps"), "page": one.get("page")}
    )
