"""Draws the pictures of docs/pixelworld2.md: heights, families, twins, and a crowded picture.

PYTHONPATH=src python docs/pixelworld2_pictures.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from pixel_reasoner.world.fonts import scaled_font
from pixel_reasoner.world.v2 import CLIPS, FAMILIES, HEIGHTS, Params, Scene, make_scene
from pixel_reasoner.world.v2.draw import draw_frames, draw_picture

FOLDER = Path(__file__).parent
OVERVIEW_PX, FRAME_PX = 192, 64
GAP, TEXT_PX = 8, 9
INK, PAPER = (40, 44, 50), (255, 255, 255)
SEED = 2_000_001


def main() -> None:
    """Write all pictures."""
    heights_sheet().save(FOLDER / "pixelworld2-heights.webp", quality=82, method=6)
    families_sheet().save(FOLDER / "pixelworld2-families.webp", quality=82, method=6)
    twins_sheet().save(FOLDER / "pixelworld2-twins.webp", quality=82, method=6)


def scene(family: str, height: int, twin: str = "a", seed: int = SEED) -> Scene:
    """Return a scene of the test split for the overview of the bundled model."""
    side = FRAME_PX if family in CLIPS else OVERVIEW_PX
    canvas = 320 if family in CLIPS else 1024
    return make_scene(
        family, seed, Params(size_px=canvas, overview_px=side, evidence_px=height), twin
    )  # type: ignore[arg-type]


def overview(one: Scene) -> Image.Image:
    """Return what the model receives: the resized picture, or a frame in which a card is visible."""
    if one.family in CLIPS:
        number = one.items[0].frames[0]
        picture = list(draw_frames(one))[number - 1]
        return picture.resize((FRAME_PX, FRAME_PX), Image.Resampling.LANCZOS)
    return draw_picture(one).resize((OVERVIEW_PX, OVERVIEW_PX), Image.Resampling.LANCZOS)


def enlarged(picture: Image.Image, side: int = 192) -> Image.Image:
    """Return the pixels of an overview as they are, larger."""
    return picture.resize((side, side), Image.Resampling.NEAREST)


def heights_sheet() -> Image.Image:
    """Return one scene at all heights: the overview above, the crop of one shape below."""
    rows: list[list[tuple[Image.Image, str]]] = [[], []]
    for height in HEIGHTS:
        one = scene("attribute", height)
        picture = draw_picture(one)
        item = one.items[one.content.targets[0]]
        side = one.params.size_px
        box = [round(value * side) for value in item.box]
        crop = picture.crop((box[0], box[1], box[2], box[3]))
        rows[0].append((enlarged(overview(one)), f"{height} px in the overview"))
        rows[1].append((crop.resize((192, 192), Image.Resampling.LANCZOS), "after zoom_in"))
    return sheet(rows)


def families_sheet() -> Image.Image:
    """Return one scene of each family, readable and unreadable."""
    rows = [
        [
            (enlarged(overview(scene(family, height))), f"{family}, {height} px")
            for family in FAMILIES
        ]
        for height in (12, 3)
    ]
    return sheet(rows)


def twins_sheet() -> Image.Image:
    """Return twins of two families, and a crowded picture for large overviews."""
    rows = [
        [
            (enlarged(overview(scene(family, 8, twin))), f"{family}, twin {twin}")
            for twin in ("a", "b")
        ]
        for family in ("attribute", "where")
    ]
    twins = sheet(rows)
    params = Params(size_px=4096, overview_px=1024, evidence_px=6)
    crowd = draw_picture(make_scene("where", SEED, params))
    crowd = crowd.resize((400, 400), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (twins.width + crowd.width + 2 * GAP, twins.height), PAPER)
    canvas.paste(twins, (0, 0))
    canvas.paste(crowd, (twins.width + GAP, GAP))
    label(canvas, "4K picture, 6 px in an overview of 1,024", twins.width + GAP, 400 + 2 * GAP)
    return canvas


def sheet(rows: list[list[tuple[Image.Image, str]]]) -> Image.Image:
    """Return pictures in rows, each above its caption."""
    columns = max(map(len, rows))
    side = 192
    width = columns * (side + GAP) + GAP
    height = len([row for row in rows if row]) * (side + GAP + 2 * TEXT_PX) + GAP
    canvas = Image.new("RGB", (width, height), PAPER)
    for number, row in enumerate(rows):
        for column, (picture, text) in enumerate(row):
            left = GAP + column * (side + GAP)
            top = GAP + number * (side + GAP + 2 * TEXT_PX)
            canvas.paste(picture, (left, top))
            label(canvas, text, left, top + side + 4)
    return canvas


def label(canvas: Image.Image, text: str, left: int, top: int) -> None:
    """Write a caption."""
    ImageDraw.Draw(canvas).text((left, top), text, font=scaled_font(TEXT_PX), fill=INK)


if __name__ == "__main__":
    main()
