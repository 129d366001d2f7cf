"""Seeds: annotated questions, each as a `Question` with evidence.

    pixelworld  scenes of the embedded world, several questions each (`scene_seeds`)
    jsonl       anyone's own data: a row a line (`read_jsonl`), or a `questions.jsonl` of this project
    visa        web pages of FineWeb-VISA: parquet files with question, short_answer, bounding_box, image
    star        STAR: STAR_*.json with questions, choices and key frames, and the Charades videos
    sa1b        SA-1B: sa_*.json with masks, and the pictures; regions that a labeller asks about (`data/sa1b`)

A reader holds one row at a time. It yields a `Question`, or a `SkippedRow` that says why a row cannot be used. A file that
is something else altogether is an error that names the keys it found.

Departures from the paper's data (arXiv 2505.15966)
    STAR's key frames are frames of the whole video; the model sees 16 frames of the part that is asked about. The evidence is
    the sampled frame nearest in time to each key frame.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import av

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import numbered_lines, write_bytes
from pixel_reasoner.media.images import image_size
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import (
    AnswerType,
    Evidence,
    MediaItem,
    Question,
    with_media_root,
)
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    SkippedRow,
    box_of_px,
    data_files,
    has_keys,
    json_object,
    json_objects,
    parquet_rows,
    try_build,
    with_options,
)
from pixel_reasoner.sources.sa1b import DEFAULT_REGIONS, read_sa1b
from pixel_reasoner.world import Scene, all_questions

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ANSWER_TYPES = {
    "mcq": AnswerType.CHOICE,
    "int": AnswerType.INTEGER,
    "anls": AnswerType.ANLS,
    "free": AnswerType.TEXT,
    **{str(kind): kind for kind in AnswerType},
}
_ROW_KEYS = (
    *(
        "id",
        "benchmark",
        "split",
        "category",
        "group",
        "media",
        "question",
        "prompt_suffix",
        "options",
    ),
    *("answer", "answer_type", "image", "boxes", "frames", "subjects", "findings", "needs_look"),
    "reasoning",
)


def scene_seeds(
    scene: Scene, medium: MediaItem, count: int, text_share: float, rng: random.Random
) -> Iterator[Question]:
    """At most `count` different questions about a scene; a share of about `text_share` needs no look.

    >>> from pixel_reasoner.world import make_scene
    >>> scene = make_scene("attribute", 7)
    >>> seeds = list(scene_seeds(scene, MediaItem(kind="image", path="x.png"), 3, 0.0, random.Random(0)))
    >>> [question.needs_look for question in seeds]
    [True, True, True]
    """
    questions = list(all_questions(scene, medium))
    looks = [question for question in questions if question.needs_look]
    overviews = [question for question in questions if not question.needs_look]
    # A scene has few details to look at: what decides the share is how many of them are asked for.
    num_looks = min(len(looks), _rounded(count * (1 - text_share), rng))
    wanted = num_looks * text_share / (1 - text_share) if text_share < 1 else count
    num_overviews = min(len(overviews), _rounded(wanted, rng))
    yield from rng.sample(looks, num_looks)
    yield from rng.sample(overviews, num_overviews)


def _rounded(number: float, rng: random.Random) -> int:
    """A whole number that is right on average."""
    return int(number + rng.random())


def read_seeds(
    source: str, data: Path, media: Path, regions: int = DEFAULT_REGIONS
) -> Iterator[Row]:
    """The rows of a data set in a folder, checked.

    Args:
        source: `jsonl`, `visa`, `star` or `sa1b`.
        data: where the data set lies.
        media: where pictures go that lie inside the data set's own files.
        regions: of one picture at most, where a data set has regions and no questions.

    Raises:
        UsageError: unknown source.
        InputError: not such a data set.
    """
    if source not in READERS:
        raise UsageError(
            expected=f"a source: pixelworld, {', '.join(READERS)}",
            got=repr(source),
            fix="name one of these",
        )
    seen: set[int] = set()
    readers = READERS | {"sa1b": partial(_read_sa1b, regions=regions)}
    for row in readers[source](data, media):
        if isinstance(row, SkippedRow):
            yield row
            continue
        key = hash(row.id)
        why = ("duplicate_id", row.id) if key in seen else _unfit(row)
        seen.add(key)
        yield row if why is None else SkippedRow(row.id, *why)


def _unfit(question: Question) -> tuple[str, str] | None:
    """Why a well-formed row cannot be used."""
    for medium in question.media:
        if not Path(medium.path).exists():
            return "missing_file", medium.path
    if question.options and not _among(question):
        told = ", ".join(question.options)
        return "answer_not_among_options", f"expected one of {told}; got {question.answer[0]!r}"
    frames = question.evidence.frames if question.evidence else ()
    if any(frame < 1 for frame in frames):
        return "bad_frame", f"frames are numbered from 1; got {min(frames)}"
    if len(frames) > MAX_SELECTED_FRAMES:
        return "too_many_frames", f"expected at most {MAX_SELECTED_FRAMES}; got {len(frames)}"
    return None


def _among(question: Question) -> bool:
    return any(answer in question.options for answer in question.answer)


# --- jsonl ---


def read_jsonl(data: Path, media: Path) -> Iterator[Row]:
    """Anyone's own data: a `.jsonl` file, or all of a folder.

    A row has `id`, `media` (`[{"type": "image|video|frames", "path", "start", "end"}]`), `question`, `answer` (a text or
    a list of accepted ones) and may have `options` (letter -> text), `answer_type` (mcq, int, anls, free), `boxes`
    (x1, y1, x2, y2 in pixels) on picture number `image`, `frames` (numbers of the 16 sampled ones), `subjects`,
    `findings`, `needs_look`, `reasoning`, `category`, `group` (rows that depend on each other), `prompt_suffix`. Rows of InSight-o3's
    benchmarks are read too. A row with `text` is a question as this project writes it. Paths are relative to the file.
    """
    del media
    for path in data_files(data, "*.jsonl"):
        for number, line in numbered_lines(path, "a JSONL file with one row a line"):
            where = f"{path.name}, line {number}"
            yield try_build(where, partial(_of_line, line, path.parent))


def _of_line(line: str, folder: Path) -> Question:
    return neutral(json_object(line), folder)


def neutral(row: dict[str, Any], folder: Path) -> Question:
    """The question of a neutral row, or of one that is a question as this project writes it.

    Args:
        row: as `read_jsonl` tells.
        folder: which relative paths are relative to.

    Raises:
        RowError: a row of another form.
        ValidationError: a value of another form.

    >>> row = {"id": 1, "media": [{"type": "image", "path": "a.png"}], "question": "How many?", "answer": 2}
    >>> neutral(row, Path("here")).media[0].path
    'here/a.png'
    """
    if "text" in row:
        try:
            return with_media_root(Question.from_object(row), folder)
        except InputError as error:
            raise RowError("bad_value", error.got) from error
    row = _by_our_names(row)
    has_keys(row, ("id", "media", "question", "answer"))
    unknown = sorted(set(row) - set(_ROW_KEYS))
    if unknown:
        raise RowError("unknown_keys", f"expected {' '.join(_ROW_KEYS)}; got {' '.join(unknown)}")
    media = [_medium(one, folder) for one in row["media"]]
    options = row.get("options") or {}
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    kind = row.get("answer_type") or ("mcq" if options else "free")
    if kind not in _ANSWER_TYPES:
        raise RowError("unknown_answer_type", f"expected {', '.join(_ANSWER_TYPES)}; got {kind!r}")
    evidence = {
        "boxes": _boxes(row.get("boxes") or (), row.get("image", 1), media),
        **{
            name: row[name] for name in ("image", "frames", "subjects", "findings") if row.get(name)
        },
    }
    also = ("needs_look", "category", "group", "reasoning")
    given = {name: row[name] for name in also if row.get(name) is not None}
    text = with_options(str(row["question"]), options) + (row.get("prompt_suffix") or "")
    return Question.model_validate(
        {
            "id": str(row["id"]),
            "text": text,
            "media": media,
            "answer": [str(answer) for answer in answers],
            "answer_type": _ANSWER_TYPES[kind],
            "options": options,
            "evidence": evidence if evidence["boxes"] or evidence.get("frames") else None,
            **given,
        }
    )


def _by_our_names(row: dict[str, Any]) -> dict[str, Any]:
    """A row as InSight-o3 writes its benchmarks (question_id, image or file_name, subset, options as lines) by our names."""
    theirs = {"question_id": "id", "subset": "category"}
    row = {theirs.get(name, name): value for name, value in row.items()}
    # `image` is the number of a picture in a row of ours, which has media, and a file in one of theirs.
    file = next((name for name in ("file_name", "image") if name in row), None)
    if "media" not in row and file:
        row["media"] = [{"type": "image", "path": row.pop(file)}]
    if isinstance(row.get("options"), str):
        row["options"] = dict(re.findall(r"(?m)^\(?([A-Z])[).:]\s*(.+?)\s*$", row["options"]))
    return row


def _medium(one: Any, folder: Path) -> MediaItem:
    if not isinstance(one, dict) or "path" not in one:
        raise RowError(
            "bad_medium", f'expected {{"type": ..., "path": ...}}; got {json.dumps(one)}'
        )
    return MediaItem.model_validate(
        {
            "kind": one.get("type", "image"),
            "path": str(folder / str(one["path"])),
            "start_s": one.get("start") or 0.0,
            "end_s": one.get("end"),
        }
    )


def _boxes(boxes_px: Any, image: int, media: list[MediaItem]) -> list[Box]:
    """Boxes in pixels of a picture, as shares of it."""
    if not boxes_px:
        return []
    if not 1 <= image <= len(media) or media[image - 1].kind != "image":
        raise RowError(
            "bad_image_number", f"expected a picture from 1 to {len(media)}; got {image}"
        )
    path = Path(media[image - 1].path)
    if not path.exists():
        raise RowError("missing_file", str(path))
    try:
        size = image_size(path, DEFAULT_MEDIA_LIMITS)
    except InputError as error:
        raise RowError("unusable_medium", str(error)) from error
    return [box_of_px(box, size) for box in boxes_px]


# --- FineWeb-VISA ---


def read_visa(data: Path, media: Path) -> Iterator[Row]:
    """Web pages with a question, a short answer and the box that supports it: parquet files of the public set.

    Columns: question, short_answer, bounding_box (x1, y1, x2, y2 in pixels), image (bytes, path). Pictures are written
    to `media`.
    """
    wanted = ("question", "short_answer", "bounding_box", "image")
    for path in data_files(data, "*.parquet"):
        for number, row in enumerate(parquet_rows(path, wanted, at_once=16)):
            name = f"visa-{path.stem}-{number}"
            yield try_build(name, partial(_page, name, row, media))


def _page(name: str, row: dict[str, Any], media: Path) -> Question:
    content = (row["image"] or {}).get("bytes")
    if not content:
        raise RowError("missing_file", "no picture in the row")
    if not row["question"] or not row["short_answer"]:
        raise RowError("no_question", "expected a question and a short_answer")
    path = media / f"{name}.png"
    if not path.exists():
        write_bytes(content, path)
    medium = MediaItem(kind="image", path=str(path))
    boxes = _boxes([row["bounding_box"]], 1, [medium])
    return Question(
        id=name,
        text=row["question"],
        media=(medium,),
        answer=(str(row["short_answer"]),),
        category="visa",
        needs_look=True,
        evidence=Evidence(
            boxes=tuple(boxes),
            subjects=("the part of the page that answers this",),
            findings=(f"this part of the page says {row['short_answer']}",),
        ),
    )


# --- STAR ---


def read_star(data: Path, media: Path) -> Iterator[Row]:
    """Situated questions about Charades videos: `STAR_*.json`, and the videos as `VIDEO_ID.mp4` below the folder.

    A row has question_id, video_id, start and end (seconds), question, answer, choices, and situations by key frame
    (number of a frame of the video).
    """
    del media
    videos = {path.stem: path for path in sorted(data.rglob("*.mp4"))}
    for path in data_files(data, "STAR_*.json"):
        for row in json_objects(path):
            name = f"star-{row.get('question_id', '?')}"
            yield try_build(name, partial(_situation, name, row, videos))


def _situation(name: str, row: dict[str, Any], videos: Mapping[str, Path]) -> Question:
    has_keys(
        row,
        ("question_id", "video_id", "start", "end", "question", "answer", "choices", "situations"),
    )
    path = videos.get(str(row["video_id"]))
    if path is None:
        raise RowError("missing_file", f"expected {row['video_id']}.mp4 below the folder")
    choices = [str(choice["choice"]) for choice in row["choices"]]
    if row["answer"] not in choices:
        raise RowError(
            "answer_not_among_options", f"expected one of {choices}; got {row['answer']!r}"
        )
    options = dict(zip(_LETTERS, choices, strict=False))
    letter = _LETTERS[choices.index(row["answer"])]
    medium = MediaItem(
        kind="video", path=str(path), start_s=float(row["start"]), end_s=float(row["end"])
    )
    return Question(
        id=name,
        text=with_options(row["question"], options),
        media=(medium,),
        answer=(letter,),
        answer_type=AnswerType.CHOICE,
        options=options,
        category="star",
        needs_look=True,
        evidence=Evidence(
            frames=_nearest_frames(medium, [int(key) for key in row["situations"]]),
            subjects=("what the question is about",),
            findings=(f"these frames show that the answer is {letter}, {row['answer']}",),
        ),
    )


def _nearest_frames(medium: MediaItem, keys: list[int]) -> tuple[int, ...]:
    """The sampled frames nearest in time to frames of the whole video."""
    try:
        sampled = sample_video(
            Path(medium.path), DEFAULT_MEDIA_LIMITS, medium.start_s, medium.end_s
        )
    except InputError as error:
        raise RowError("unusable_medium", str(error)) from error
    with av.open(medium.path) as container:
        rate = container.streams.video[0].average_rate
    if not keys or not rate or min(keys) < 0:
        raise RowError("bad_frame", f"expected numbers of key frames; got {keys}")
    times = [frame.time_s or 0.0 for frame in sampled]
    nearest = {
        min(range(len(times)), key=lambda n: abs(times[n] - key / float(rate))) for key in keys
    }
    return tuple(sorted(number + 1 for number in nearest))[:MAX_SELECTED_FRAMES]


def _read_sa1b(data: Path, media: Path, regions: int = DEFAULT_REGIONS) -> Iterator[Row]:
    del media
    return read_sa1b(data, regions)


READERS: dict[str, Callable[[Path, Path], Iterator[Row]]] = {
    "jsonl": read_jsonl,
    "visa": read_visa,
    "star": read_star,
    "sa1b": _read_sa1b,
}
"""source -> reader of (folder of the data set, folder for extracted pictures)"""
