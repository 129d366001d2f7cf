"""Pictures for a person who approves: the contact sheet of the moments, and the proof sheet of a redaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_path
from pixel_reasoner.reports.picture_files import save_options
from pixel_reasoner.reports.typesetting import FAINT, INK, PAPER, Style, Typesetter
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.moments.clips.redact import RedactedFile
from pixel_reasoner.workflows.moments.frames import pictures_at
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments
from pixel_reasoner.workflows.moments.new_files import check_new
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.timecode import clock
from pixel_reasoner.workflows.moments.video_index import VideoIndex, read_video_index

WIDTH_PX = 1920
MAX_MOMENTS = 60
"""moments on one sheet; more are on further sheets"""
MAX_PROOFS = 48
_MARGIN_PX, _GAP_PX = 48, 12
_COLUMNS = 5
_FRAMES_PER_MOMENT = 3
_TITLE, _HEAD, _TEXT = Style(40, is_bold=True), Style(26, is_bold=True), Style(22)
_FAINT = Style(22, color=FAINT)
_BOX_COLOURS = ("#ffffff", "#d1242f")
"""of a double outline, from outside, visible on every background"""
_MAX_TILE_PX = 360


class _Tile(NamedTuple):
    picture: Image.Image
    caption: str


def write_contact_sheets(
    results: Iterable[VideoMoments], path: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the moments as pictures: first, middle and last frame of each, with times, description and score.

    Args:
        results: of all videos.
        path: of the first sheet; further ones are numbered.
        overwrite: replace existing files.

    Raises:
        OutputError: a file cannot be written.
        UsageError: a file exists.
    """
    found = [(one, moment) for one in results for moment in one.moments]
    paths = []
    for number, first in enumerate(range(0, max(1, len(found)), MAX_MOMENTS), start=1):
        part = found[first : first + MAX_MOMENTS]
        sheet = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        alt = f"Contact sheet of {len(part)} moments"
        save_picture(_contact_sheet(part, first, len(found)), sheet, alt, overwrite=overwrite)
        paths.append(sheet)
    return paths


def _contact_sheet(
    found: Sequence[tuple[VideoMoments, Moment]], offset: int, total: int
) -> Image.Image:
    typesetter = Typesetter(_TEXT.size_px)
    rows = [
        _moment_row(one, moment, number, typesetter)
        for number, (one, moment) in enumerate(found, start=offset + 1)
    ]
    title = f"{total} moments" if total != 1 else "1 moment"
    if len(found) < total:
        title += f", {offset + 1} to {offset + len(found)}"
    return _page(
        title, "Check each row before cutting: first, middle and last frame.", rows, typesetter
    )


def _moment_row(
    one: VideoMoments, moment: Moment, number: int, typesetter: Typesetter
) -> Image.Image:
    assert one.index is not None
    numbers = frames_of_moment(moment.span)
    text_px = 520
    tile_px = (
        WIDTH_PX - 2 * _MARGIN_PX - text_px - _GAP_PX * _FRAMES_PER_MOMENT
    ) // _FRAMES_PER_MOMENT
    tiles = [
        _Tile(
            _fitted(_marked(picture, moment.boxes.get(frame, ())), tile_px),
            clock(one.index.time_s(frame)),
        )
        for frame, picture in _pictures(one.index, numbers)
    ]
    height = max([tile.picture.height for tile in tiles], default=80) + _FAINT.line_px
    lines = typesetter.wrap(moment.query.text, _HEAD, text_px - 70, 3)
    row = Image.new("RGB", (WIDTH_PX - 2 * _MARGIN_PX, max(height, 190)), PAPER)
    pen = ImageDraw.Draw(row)
    typesetter.draw(pen, (0, 0), [str(number)], _HEAD)
    typesetter.draw(pen, (60, 0), lines, _HEAD)
    facts = [
        *typesetter.wrap(one.video.name, _FAINT, text_px - 70, 1),
        f"{clock(moment.start_s)} to {clock(moment.end_s)}",
        f"{float(moment.duration_s):.3f} s, score {moment.score:.2f}, {_shots(moment)}",
    ]
    if moment.uncertain_frames:
        facts.append(f"ends uncertain by {moment.uncertain_frames} frames")
    typesetter.draw(pen, (60, len(lines) * _HEAD.line_px + 6), facts, _FAINT)
    for place, tile in enumerate(tiles):
        left = text_px + place * (tile_px + _GAP_PX)
        row.paste(tile.picture, (left, 0))
        typesetter.draw(pen, (left, tile.picture.height + 2), [tile.caption], _FAINT)
    return row


def _shots(moment: Moment) -> str:
    if not moment.shots:
        return "no shots"
    first, last = moment.shots[0], moment.shots[-1]
    return f"shot {first}" if first == last else f"shots {first} to {last}"


def frames_of_moment(span: Span) -> list[int]:
    """Return the first, middle and last frame of a span, each once.

    >>> frames_of_moment(Span(10, 21)), frames_of_moment(Span(3, 4))
    ([10, 15, 20], [3])
    """
    return sorted({span.first, (span.first + span.end - 1) // 2, span.end - 1})


# --- proof sheet ---


def write_proof_sheet(
    redacted: RedactedFile, index: VideoIndex, path: Path, *, overwrite: bool = False
) -> Path:
    """Write a picture of a redacted file for sign-off, decoded from the file itself.

    It shows both ends of each covered span, the frames just outside of it, and the frames with the least certain boxes.

    Args:
        redacted: the file.
        index: the source of the file.
        path: of the picture.
        overwrite: replace an existing file.

    Raises:
        InputError: the file cannot be decoded.
        OutputError: the picture cannot be written.
        UsageError: the picture exists.
    """
    numbers = proof_frames(redacted)
    output = read_video_index(redacted.path)
    shift = redacted.span.first
    typesetter = Typesetter(_TEXT.size_px)
    width = WIDTH_PX - 2 * _MARGIN_PX
    tile_px = (width - _GAP_PX * (_COLUMNS - 1)) // _COLUMNS
    tiles = []
    for place, picture in _pictures(output, [number - shift for number in numbers]):
        number = place + shift
        boxes = [one.box for one in redacted.boxes.get(number, ())]
        tile = _fitted(_marked(picture, boxes), tile_px)
        tiles.append(_Tile(tile, f"{clock(index.time_s(number))}  {proof_state(redacted, number)}"))
    rows = [
        _tile_row(tiles[at : at + _COLUMNS], width, typesetter)
        for at in range(0, len(tiles), _COLUMNS)
    ]
    note = (
        f"{len(redacted.boxes):,} covered frames, {redacted.num_bridged:,} of them without a match (covered wider); the frames just "
        "before and after a covered span are shown too. "
        f"Still in the file: {'; '.join(redacted.left)}. A person must check the whole file before it is shared."
    )
    title = f"Proof sheet of {redacted.path.name}"
    alt = f"{title}: {len(tiles)} frames. {note}"
    save_picture(
        _page(title, note, rows, typesetter, _sign_off(width, typesetter)),
        path,
        alt,
        overwrite=overwrite,
    )
    return path


def proof_state(redacted: RedactedFile, number: int) -> str:
    """Return how certain the boxes of a frame are, or where a frame without a box is."""
    if some := redacted.boxes.get(number, ()):
        return f"match {max(one.match for one in some):.2f}"
    is_before, is_after = number + 1 in redacted.boxes, number - 1 in redacted.boxes
    if is_before and is_after:
        return "between two spans"
    return "before a span" if is_before else "after a span" if is_after else "no box"


def proof_frames(redacted: RedactedFile, max_frames: int = MAX_PROOFS) -> list[int]:
    """Return the numbers of frames to check: ends of covered spans with a neighbour, the worst matches, then even ones."""
    covered = sorted(redacted.boxes)
    if not covered:
        middle = (redacted.span.first + redacted.span.end) // 2
        return sorted({redacted.span.first, middle, redacted.span.end - 1})
    inside = range(redacted.span.first, redacted.span.end)
    ends = {
        number
        for frame in covered
        for number in (frame - 1, frame, frame + 1)
        if number in inside and (frame - 1 not in redacted.boxes or frame + 1 not in redacted.boxes)
    }
    worst = sorted(covered, key=lambda n: max(one.match for one in redacted.boxes[n]))
    chosen = dict.fromkeys([*sorted(ends)[: max_frames // 2], *worst[: max_frames // 4]])
    rest = [frame for frame in covered if frame not in chosen]
    free = min(len(rest), max_frames - len(chosen))
    even = [rest[(2 * n + 1) * len(rest) // (2 * free)] for n in range(free)]
    return sorted([*chosen, *even])


def _tile_row(tiles: Sequence[_Tile], width: int, typesetter: Typesetter) -> Image.Image:
    height = max(tile.picture.height for tile in tiles) + _FAINT.line_px
    row = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(row)
    tile_px = (width - _GAP_PX * (_COLUMNS - 1)) // _COLUMNS
    for place, tile in enumerate(tiles):
        left = place * (tile_px + _GAP_PX)
        row.paste(tile.picture, (left, 0))
        typesetter.draw(pen, (left, tile.picture.height + 2), [tile.caption], _FAINT)
    return row


def _sign_off(width: int, typesetter: Typesetter) -> Image.Image:
    row = Image.new("RGB", (width, 90), PAPER)
    pen = ImageDraw.Draw(row)
    for left, text in ((0, "Checked by"), (700, "Date"), (1200, "Approved: yes / no")):
        typesetter.draw(pen, (left, 40), [text], _TEXT)
        start = left + typesetter.width(text, _TEXT) + 14
        if left < 1200:
            pen.line((start, 72, left + 440, 72), fill=INK, width=2)
    return row


# --- pictures ---


def save_picture(image: Image.Image, path: Path, alt: str, *, overwrite: bool) -> None:
    """Write a picture with its alt text.

    Raises:
        OutputError: it cannot be written.
        UsageError: it exists.
    """
    check_new(path, overwrite=overwrite)
    with atomic_path(path) as part:
        image.save(part, **save_options(path, alt))


def _pictures(index: VideoIndex, numbers: Sequence[int]) -> list[tuple[int, Image.Image]]:
    """Return frames with their display shape; frames that cannot be decoded are grey."""
    try:
        return [(n, _displayed(picture, index)) for n, picture in pictures_at(index, numbers)]
    except InputError:
        return [(n, Image.new("RGB", index.size, "#8b949e")) for n in numbers]


def _displayed(picture: Image.Image, index: VideoIndex) -> Image.Image:
    ratio = index.sample_aspect_ratio
    if ratio == 1:
        return picture
    return picture.resize((max(1, round(picture.width * ratio)), picture.height))


def _fitted(picture: Image.Image, width: int) -> Image.Image:
    scale = min(width / picture.width, _MAX_TILE_PX / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _marked(picture: Image.Image, boxes: Iterable[Box]) -> Image.Image:
    """Return a picture with an outline around the boxes, outside of them: what they cover stays visible.

    Boxes that overlap have one outline.
    """
    sides = [
        (
            box.x1 * picture.width,
            box.y1 * picture.height,
            box.x2 * picture.width,
            box.y2 * picture.height,
        )
        for box in boxes
    ]
    marked = picture.copy()
    line = max(2, picture.width // 250)
    # The outermost colour first: each further one covers all but its edge.
    for grow, colour in zip((2 * line, line), _BOX_COLOURS, strict=True):
        mask = Image.new("L", picture.size, 0)
        pen = ImageDraw.Draw(mask)
        for grown, fill in ((grow, 255), (0, 0)):
            for x1, y1, x2, y2 in sides:
                pen.rectangle((x1 - grown, y1 - grown, x2 + grown - 1, y2 + grown - 1), fill=fill)
        marked.paste(colour, mask=mask)
    return marked


def _page(
    title: str,
    note: str,
    rows: Sequence[Image.Image],
    typesetter: Typesetter,
    footer: Image.Image | None = None,
) -> Image.Image:
    width = WIDTH_PX - 2 * _MARGIN_PX
    lines = typesetter.wrap(note, _TEXT, width, 3)
    head_px = _TITLE.line_px + len(lines) * _TEXT.line_px + 24
    parts = [*rows, *([footer] if footer else [])]
    height = head_px + sum(row.height + 28 for row in parts)
    page = Image.new("RGB", (WIDTH_PX, math.ceil(height) + 2 * _MARGIN_PX), PAPER)
    pen = ImageDraw.Draw(page)
    typesetter.draw(pen, (_MARGIN_PX, _MARGIN_PX), [title], _TITLE)
    typesetter.draw(pen, (_MARGIN_PX, _MARGIN_PX + _TITLE.line_px), lines, _TEXT)
    top = _MARGIN_PX + head_px
    for row in parts:
        page.paste(row, (_MARGIN_PX, top))
        top += row.height + 28
    return page
