"""Draws the pictures of docs/pixelworld.md: parts with defects, and frames of a clip.

PYTHONPATH=src python docs/pixelworld_pictures.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from pixel_reasoner import api
from pixel_reasoner.world.fonts import scaled_font
from pixel_reasoner.world.moments import MomentsParams, make_clip
from pixel_reasoner.world.moments.draw import Painter
from pixel_reasoner.world.parts import DEFECT_CLASSES, PartRow, read_parts

FOLDER = Path(__file__).parent
TILE, GAP, TEXT_PX = 250, 10, 9
INK, PAPER, RED, BLUE = (40, 44, 50), (255, 255, 255), (220, 40, 40), (30, 90, 220)


def main() -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        api.render_parts(api.PartsSpec(width_px=1600, references=1, validation=0, test=40), out)
        draw_parts(out).save(FOLDER / "pixelworld-parts.webp", quality=78, method=6)
    draw_clip().save(FOLDER / "pixelworld-moments.webp", quality=78, method=6)


def draw_parts(folder: Path) -> Image.Image:
    """Return a contact sheet: references, conditions, and each class of defect at growing size."""
    rows = list(read_parts(folder))
    lines: list[list[tuple[Image.Image, str]]] = [
        [(whole(folder, row), row.kind) for row in rows if row.split == "train"],
        [(whole(folder, pick(rows, kind, one)), one.replace("_", " ")) for kind, one in CONDITIONS],
    ]
    for name in DEFECT_CLASSES:
        found = sorted(
            (row for row in rows if row.defects and row.defects[0].defect == name),
            key=lambda row: row.defects[0].overview_px,
        )
        chosen = [found[(len(found) - 1) * number // 4] for number in range(5)]
        lines.append([(close_up(folder, row), caption(row)) for row in chosen])
    return sheet(lines, TILE, TILE * 3 // 4)


CONDITIONS = (
    ("plate", "shifted"),
    ("board", "rotated"),
    ("label", "relit"),
    ("gear", "misaligned"),
    ("connector", "wrong_part"),
)


def pick(rows: list[PartRow], kind: str, condition: str) -> PartRow:
    """Return a photograph of a kind in a condition."""
    return next(row for row in rows if row.kind == kind and row.condition == condition)


def caption(row: PartRow) -> str:
    """Return the class and the size of a defect."""
    defect = row.defects[0]
    return f"{defect.defect.replace('_', ' ')}, {defect.overview_px:.0f} px"


def whole(folder: Path, row: PartRow) -> Image.Image:
    """Return a photograph."""
    return Image.open(folder / row.image).convert("RGB")


def close_up(folder: Path, row: PartRow) -> Image.Image:
    """Return the surroundings of a defect, with its box."""
    left, top, right, bottom = row.defects[0].box_px
    half = max(44, (right - left) * 1.1, (bottom - top) * 1.5)
    x, y = (left + right) / 2, (top + bottom) / 2
    width, height = row.size_px
    x, y = min(max(x, half), width - half), min(max(y, half * 0.75), height - half * 0.75)
    edges = (round(x - half), round(y - half * 0.75), round(x + half), round(y + half * 0.75))
    scale = TILE / (edges[2] - edges[0])
    crop = whole(folder, row).crop(edges).resize((TILE, TILE * 3 // 4), Image.Resampling.BICUBIC)
    box = [(v - edges[n % 2]) * scale for n, v in enumerate((left, top, right, bottom))]
    box = [box[0] - 5, box[1] - 5, box[2] + 5, box[3] + 5]
    ImageDraw.Draw(crop).rectangle(box, outline=RED, width=2)
    return crop


def draw_clip() -> Image.Image:
    """Return a contact sheet of the events of two clips, with the boxes of event and target."""
    tiles = []
    for seed in (0, 1):
        clip = make_clip(MomentsParams(duration_s=120), "test", seed)
        painter, kinds = Painter(clip), set()
        for event in clip.events:
            number = (event.first + event.end) // 2
            if event.kind in kinds or not painter.target_boxes(number):
                continue
            kinds.add(event.kind)
            picture = Image.fromarray(painter.frame(number))
            pen = ImageDraw.Draw(picture)
            pen.rectangle(painter.event_box(event, number), outline=RED, width=3)
            for box in painter.target_boxes(number):
                pen.rectangle(box, outline=BLUE, width=3)
            start, end = float(clip.times[event.first]), float(clip.times[event.end])
            tiles.append(
                (picture, f"{event.kind} {event.value}".strip() + f": {start:.2f} to {end:.2f} s")
            )
    return sheet([tiles[:3], tiles[3:6]], 410, 231)


def sheet(lines: list[list[tuple[Image.Image, str]]], width: int, height: int) -> Image.Image:
    """Return pictures in rows, with a line of text under each."""
    row_height = height + 30
    columns = max(map(len, lines))
    size = (columns * (width + GAP) - GAP, len(lines) * row_height)
    canvas = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(canvas), scaled_font(TEXT_PX, 2)
    for row, line in enumerate(lines):
        for column, (picture, text) in enumerate(line):
            left, top = column * (width + GAP), row * row_height
            small = picture.resize((width, height), Image.Resampling.LANCZOS)
            canvas.paste(small, (left, top))
            pen.text((left + 2, top + height + 6), text, font=font, fill=INK)
    return canvas


if __name__ == "__main__":
    main()
