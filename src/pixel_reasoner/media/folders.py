"""Frame sampling from folders of picture files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.images import PICTURE_FORMATS, PICTURE_SUFFIXES, image_size, open_image
from pixel_reasoner.media.limits import (
    PICTURE_BYTES_PER_S,
    Deadline,
    check_memory,
    frames_memory_bytes,
)
from pixel_reasoner.media.sampling import Frame, FrameSelection, spread
from pixel_reasoner.schema.settings import MediaLimits

_EXPECTED = f"a folder of picture files ({PICTURE_FORMATS})"


def sample_folder(
    path: Path,
    limits: MediaLimits,
    start_s: float = 0.0,
    end_s: float | None = None,
    fps: float | None = None,
    indices: tuple[int, ...] = (),
) -> list[Frame]:
    """Return pictures spaced evenly over a folder, in natural order: `frame9` before `frame10`.

    Args:
        path: the folder.
        limits: number of frames, and the limits of each.
        start_s: start of the part to sample.
        end_s: its end; None at the end of the folder.
        fps: frames per second. With None the frames have no times and the whole folder is sampled.
        indices: recorded positions to decode instead, from 0.

    Raises:
        InputError: no such folder, no picture in it, or an unusable sampled picture.
    """
    with as_input_errors(path, _EXPECTED, "give a folder that holds the frames as pictures"):
        files = _picture_files(path)
        selection = FrameSelection(limits.num_frames, start_s, end_s, indices)
        wanted = _sample_indices(len(files), selection, fps)
    deadline = Deadline(path, limits, PICTURE_BYTES_PER_S, num_pictures=len(wanted))
    num_bytes = 0
    for index in wanted:
        deadline.check()
        num_bytes += frames_memory_bytes(image_size(files[index], limits), num_kept=1)
    check_memory(path, f"{len(wanted)} pictures", num_bytes, limits)
    frames: list[Frame] = []
    num_bytes = 0
    for index in wanted:
        deadline.check()
        left = {"max_decode_bytes": limits.max_decode_bytes - num_bytes}
        image = open_image(files[index], limits.model_copy(update=left))
        num_bytes += frames_memory_bytes(image.size, num_kept=1)
        frames.append(Frame(image, index / fps if fps else None, index))
    return frames


def _picture_files(path: Path) -> list[Path]:
    files = (file for file in path.iterdir() if _is_picture_name(file.name))
    found = sorted(files, key=lambda file: natural_key(file.name))
    if not found:
        raise ValueError("no picture files in it")
    return found


def _sample_indices(num_files: int, selection: FrameSelection, fps: float | None) -> Sequence[int]:
    """Return the indices of the sampled files.

    Raises:
        ValueError: no file in the part.
    """
    if selection.indices:
        return [index for index in selection.indices if index < num_files]
    if fps is None:
        return spread(num_files, selection.num_frames)
    first = int(selection.start_s * fps)
    end = num_files if selection.end_s is None else min(num_files, int(selection.end_s * fps) + 1)
    if first >= end:
        raise ValueError(f"{num_files / fps:.1f} s of frames, none from {selection.start_s:g} s on")
    return [first + position for position in spread(end - first, selection.num_frames)]


def _is_picture_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES


def natural_key(name: str) -> list[str | int]:
    """Return a sort key that orders numbers in names by value.

    >>> sorted(["f10.png", "f9.png"], key=natural_key)
    ['f9.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if position % 2 else part for position, part in enumerate(parts)]
