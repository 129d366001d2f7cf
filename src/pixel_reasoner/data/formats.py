"""Export and import of traces.

trl           a `datasets` folder with `messages` and embedded `images`, for a stock `SFTTrainer`
message_list  the JSON of PixelReasoner-SFT-Data: a list of rows `{"message_list": [...]}`, pictures as files

`message_list` has no fields for evidence and for marks of mistakes: an export drops them. An import executes every call
again, and skips rows whose calls cannot be executed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pixel_reasoner.data.encode import conversation
from pixel_reasoner.dialects import PIXEL_REASONER, boxed
from pixel_reasoner.errors import InputError, PixelReasonerError, packages_of
from pixel_reasoner.files import atomic_writer, cannot_write, file_name, write_bytes
from pixel_reasoner.rollout.replay import replay
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.sources.media_folders import data_folders
from pixel_reasoner.sources.rows import SkippedRow, json_objects


def trl_row(trace: Trace) -> dict[str, Any]:
    """Return a trace as a row: messages with placeholders of pictures, and the pictures in order.

    A stock trainer cannot mask deliberate mistakes: it trains them.
    """
    messages, images = [], []
    for message in conversation(trace):
        content = []
        for part in message["content"]:
            if part["type"] == "image":
                images.append(part["image"])
            content.append({"type": part["type"], "text": part.get("text")})
        messages.append({"role": message["role"], "content": content})
    return {"messages": messages, "images": images}


def export_trl(source: Path, out: Path, allow_media: Sequence[Path] = ()) -> int:
    """Write the traces of a folder or file as a folder for `datasets.load_from_disk`, and return the number of rows.

    Raises:
        InputError: the traces or their media cannot be read.
        OutputError: `out` cannot be written.
    """
    with packages_of("train", "write data sets"):
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
        with TemporaryDirectory() as cache:
            dataset = Dataset.from_generator(
                _rows,
                features=features,
                gen_kwargs={"source": str(source), "allow_media": [*map(str, allow_media)]},
                cache_dir=cache,
            )
            dataset.save_to_disk(str(out))
    except DatasetGenerationError as error:  # wraps errors of reading the traces
        if isinstance(error.__cause__, PixelReasonerError):
            raise error.__cause__ from None
        raise
    except OSError as error:
        raise cannot_write(out, error) from error
    return len(dataset)


def _rows(source: str, allow_media: list[str]) -> Iterator[dict[str, Any]]:
    yield from map(trl_row, load_run(Path(source), [*map(Path, allow_media)]))


def export_message_list(source: Path, out: Path, allow_media: Sequence[Path] = ()) -> int:
    """Write `out/data.json` and `out/images`, paths relative to `out`, and return the number of rows.

    Raises:
        InputError: traces that cannot be read, or whose dialect is not that of the released checkpoints.
        OutputError: `out` cannot be written.
    """
    count = 0
    with atomic_writer(out / "data.json") as file:
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
    for message in conversation(trace):
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
        allow_media: folders, besides that of the file, from which it may name pictures.

    Raises:
        InputError: not such a file.
    """
    allowed = (*data_folders(path), *allow_media)
    for number, row in enumerate(json_objects(path), start=1):
        name = f"{path.stem}-{number}"
        try:
            yield _import_row(name, row, path.parent, allowed)
        except InputError as error:
            yield SkippedRow(name, "unusable_medium", str(error))
        except (_Anomaly, LookupError, TypeError, AttributeError, ValueError) as error:
            yield SkippedRow(name, "bad_row", f"{type(error).__name__}: {error}")


class _Anomaly(Exception):
    """A row that differs from what a rollout would record."""


def _import_row(name: str, row: dict[str, Any], folder: Path, allowed: Sequence[Path]) -> Trace:
    messages = [m for m in row["message_list"] if m["role"] != "system"]
    first = messages[0]["content"]
    medium = next((part for part in first if "image" in part or "video" in part), None)
    if medium is None:
        raise _Anomaly("the first message has no picture and no video")
    text = "".join(part["text"] for part in first if "text" in part)
    turn_texts = [
        "".join(part.get("text", "") for part in m["content"])
        for m in messages
        if m["role"] == "assistant"
    ]
    answer = boxed(turn_texts[-1])
    if answer is None:
        raise _Anomaly("the last message has no \\boxed{}")
    question = Question(
        id=name,
        text=text.removesuffix(PIXEL_REASONER.suffix_with_operations).strip(),
        media=(_medium_of(medium, folder).restricted(allowed),),
        answer=(answer,),
    )
    settings = RunSettings(dialect=PIXEL_REASONER.name, budgets=PIXEL_REASONER.budgets)
    rollout = replay(question, turn_texts, settings)
    _check_turns(rollout, len(turn_texts))
    return rollout.trace(settings)


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


def _medium_of(part: dict[str, Any], folder: Path) -> MediaItem:
    if "image" in part:
        return MediaItem(kind="image", path=str(folder / part["image"]))
    frames = [folder / frame for frame in part["video"]]
    parent = frames[0].parent
    if set(parent.iterdir()) != set(frames):
        raise _Anomaly(f"the frames of the video are not all the files of {parent}")
    return MediaItem(kind="frames", path=str(parent))
