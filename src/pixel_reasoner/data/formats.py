"""Export and import formats of traces.

trl           a `datasets` folder with `messages` and inline `images`, for a stock `SFTTrainer`
message_list  the JSON format of PixelReasoner-SFT-Data: a list of rows `{"message_list": [...]}`, pictures as files

`message_list` has no fields for evidence and mistakes, so an export drops them. An import executes every call again and
skips
rows whose calls cannot be executed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pixel_reasoner.data.encode import conversation
from pixel_reasoner.dialects import PIXEL_REASONER, Message, boxed, get_dialect
from pixel_reasoner.errors import InputError, PixelReasonerError, require_extra
from pixel_reasoner.files import (
    TEMPORARY_PREFIX,
    atomic_writer,
    cannot_write,
    file_name,
    write_bytes,
)
from pixel_reasoner.models.native_tools import as_text_messages
from pixel_reasoner.rollout.replay import replay
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace, Turn
from pixel_reasoner.sources.cells import strip_placeholders
from pixel_reasoner.sources.media_folders import data_folders
from pixel_reasoner.sources.rows import RowError, SkippedRow, json_objects


def _as_text(trace: Trace) -> list[Message]:
    """Return a trace as messages whose turns are texts and whose results are user messages, for every dialect."""
    messages = conversation(trace)
    return as_text_messages(get_dialect(trace.settings.dialect), messages)


def trl_row(trace: Trace) -> dict[str, Any]:
    """Return a trace as a row: messages with image placeholders, and the pictures in order.

    A stock trainer cannot mask deliberate mistakes, so it trains them.
    """
    messages, images = [], []
    for message in _as_text(trace):
        content = []
        for part in message["content"]:
            if part["type"] == "image":
                images.append(part["image"])
            content.append({"type": part["type"], "text": part.get("text")})
        messages.append({"role": message["role"], "content": content})
    return {"messages": messages, "images": images}


def export_trl(source: Path, out: Path, allow_media: Sequence[Path] = ()) -> int:
    """Export the traces of a folder or file for `datasets.load_from_disk`, and return the number of rows.

    Raises:
        InputError: traces or media that cannot be read.
        OutputError: `out` cannot be written.
    """
    with require_extra("train", "write data sets"):
        from datasets import Dataset, Features, Image, List, Value
        from datasets.exceptions import DatasetGenerationError

    features = Features(
        {
            "messages": List(
                {
                    "role": Value("string"),
                    "content": List({"type": Value("string"), "text": Value("string")}),
                }
            ),
            "images": List(Image()),
        }
    )

    try:
        with FolderLock(out), TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out) as folder:
            dataset = Dataset.from_generator(
                _rows,
                features=features,
                gen_kwargs={"source": str(source), "allow_media": [*map(str, allow_media)]},
                cache_dir=folder,
            )
            whole = Path(folder) / "whole"
            dataset.save_to_disk(str(whole))
            _move_dataset(whole, out)
            return len(dataset)
    except DatasetGenerationError as error:  # wraps errors of trace parsing and of a full disk
        if isinstance(error.__cause__, PixelReasonerError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, OSError):
            raise cannot_write(out, error.__cause__) from error
        raise
    except PixelReasonerError:
        raise
    except OSError as error:
        raise cannot_write(out, error) from error


def _move_dataset(folder: Path, out: Path) -> None:
    """Move the files of a data set. `state.json` lists the others, so it is removed first and moved last."""
    (out / "state.json").unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "state.json"):
        path.replace(out / path.name)


def _rows(source: str, allow_media: list[str]) -> Iterator[dict[str, Any]]:
    yield from map(trl_row, load_run(Path(source), [*map(Path, allow_media)]))


def export_message_list(source: Path, out: Path, allow_media: Sequence[Path] = ()) -> int:
    """Write `out/data.json` and `out/images`, paths relative to `out`, and return the number of rows.

    Raises:
        InputError: traces that cannot be read, or whose dialect differs from the one of the published checkpoints.
        OutputError: `out` cannot be written.
    """
    count = 0
    with FolderLock(out), atomic_writer(out / "data.json") as file:
        for trace in load_run(source, allow_media):
            row = {"message_list": _message_list(trace, out)}
            file.write(("[\n" if count == 0 else ",\n") + json.dumps(row, ensure_ascii=False))
            count += 1
        file.write("\n]\n" if count else "[]\n")
    return count


def _message_list(trace: Trace, out: Path) -> list[dict[str, Any]]:
    if trace.settings.dialect != PIXEL_REASONER.name:
        raise InputError(
            expected=f"traces in the dialect {PIXEL_REASONER.name}",
            got=f"{trace.question.id} in {trace.settings.dialect!r}",
            fix=f"write them with `pixel-reasoner synth ... --model {PIXEL_REASONER.name}`",
        )
    rows = []
    number = 0
    for message in _as_text(trace):
        content: list[dict[str, Any]] = []
        for part in message["content"]:
            if part["type"] == "text":
                content.append({"text": part["text"]})
                continue
            number += 1
            is_frame = number <= len(trace.pictures) and trace.pictures[0].frame is not None
            folder = f"images/{file_name(trace.question.id)}{'/frames' if is_frame else ''}"
            name = f"{folder}/{number}.png"
            buffer = io.BytesIO()
            part["image"].save(buffer, "PNG")
            write_bytes(buffer.getvalue(), out / name)
            if is_frame:
                if not content or "video" not in content[-1]:
                    content.append({"video": []})
                content[-1]["video"].append(name)
            else:
                content.append({"image": name})
        rows.append({"role": message["role"], "content": content})
    return rows


def import_message_list(
    path: Path, allow_media: Sequence[Path] = ()
) -> Iterator[Trace | SkippedRow]:
    """Yield the traces of a file of PixelReasoner-SFT-Data; picture paths are relative to the file.

    Args:
        path: the file.
        allow_media: further folders from which the file may name pictures, in addition to its own folder.

    Raises:
        InputError: another file format.
    """
    allowed = (*data_folders(path), *allow_media)
    for number, row in enumerate(json_objects(path), start=1):
        name = f"{path.stem}-{number}"
        try:
            yield _import_row(name, row, path.parent, allowed)
        except InputError as error:
            yield SkippedRow(name, "unusable_medium", str(error))
        except RowError as error:
            yield SkippedRow(name, error.reason, str(error))
        except (_Anomaly, LookupError, TypeError, AttributeError, ValueError) as error:
            yield SkippedRow(name, "bad_row", f"{type(error).__name__}: {error}")


class _Anomaly(Exception):
    """Row that no rollout would record."""


def _import_row(name: str, row: dict[str, Any], folder: Path, allowed: Sequence[Path]) -> Trace:
    messages = [m for m in row["message_list"] if m["role"] != "system"]
    parts = [_parts(message) for message in messages]
    if not messages or messages[0]["role"] != "user":
        raise _Anomaly("the first message is not a user message")
    media = tuple(
        _parse_media_item(part, folder).restricted(allowed)
        for part in parts[0]
        if "text" not in part
    )
    if not media:
        raise _Anomaly("the first message has no picture and no video")
    turns = [
        _join_text(part)
        for m, part in zip(messages, parts, strict=True)
        if m["role"] == "assistant"
    ]
    answer = boxed(turns[-1]) if turns else None
    if not answer or not answer.strip():
        raise _Anomaly("the last message has no answer in \\boxed{}")
    text = _join_text(parts[0]).removesuffix(PIXEL_REASONER.suffix_with_operations).strip()
    question = Question(
        id=name, text=strip_placeholders(text, len(media)), media=media, answer=(answer,)
    )
    settings = RunSettings(dialect=PIXEL_REASONER.name, budgets=PIXEL_REASONER.budgets)
    rollout = replay(question, turns, settings)
    _check_turns(rollout, len(turns))
    results = [part for m, part in zip(messages[1:], parts[1:], strict=True) if m["role"] == "user"]
    for turn, part in zip(rollout.turns, results, strict=False):
        _check_pictures(turn, part)
    return rollout.trace(settings)


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a message, only texts, pictures and videos."""
    for part in message["content"]:
        kinds = [kind for kind in ("text", "image", "video") if kind in part]
        if not isinstance(part, dict) or len(kinds) != 1:
            raise _Anomaly(f"expected a part with text, image or video; got {str(part)[:80]}")
        values = part["video"] if kinds == ["video"] else [part[kinds[0]]]
        if not values or not all(isinstance(value, str) for value in values):
            raise _Anomaly(f"expected texts and paths; got {str(part)[:80]}")
        "".join(values).encode()  # ValueError: lone surrogate
    return list(message["content"])


def _join_text(parts: list[dict[str, Any]]) -> str:
    return "".join(part["text"] for part in parts if "text" in part)


def _check_pictures(turn: Turn, parts: list[dict[str, Any]]) -> None:
    """Check that a message has as many pictures as the call before it returned."""
    num_shown = sum(len(part["video"]) if "video" in part else "image" in part for part in parts)
    num_returned = len(turn.observation.pictures) if turn.observation else 0
    if num_shown != num_returned:
        raise _Anomaly(f"a call returns {num_returned} pictures; its message has {num_shown}")


def _check_turns(rollout: Rollout, num_messages: int) -> None:
    for number, turn in enumerate(rollout.turns[: num_messages - 1], start=1):
        observation = turn.observation
        if observation is None or observation.error:
            raise _Anomaly(f"message {number}: {observation.text if observation else 'no call'}")
    if len(rollout.turns) < num_messages:
        raise _Anomaly(
            f"the rollout stops before message {len(rollout.turns) + 1} ({rollout.stop})"
        )
    if rollout.stop is not StopReason.ANSWERED:
        raise _Anomaly(f"the rollout ends with {rollout.stop}")


def _parse_media_item(part: dict[str, Any], folder: Path) -> MediaItem:
    if "image" in part:
        return MediaItem(kind="image", path=str(folder / part["image"]))
    frames = [folder / frame for frame in part["video"]]
    parent = frames[0].parent
    if set(parent.iterdir()) != set(frames):
        raise _Anomaly(f"the frames of the video are not all the files of {parent}")
    return MediaItem(kind="frames", path=str(parent))
