"""Exactness of the operation `read_text`: rendered lines of text in ten fonts, read back.

    python benchmarks/read_text.py [--sizes 8,10,12,14,16,20,28,40] [--lines 4] [--blocks] [--hinted]

For each font and size, prints the share of lines that are read exactly (characters, case and punctuation; blanks between
words are compared as one blank), and all lines that are not. `--blocks` reads several lines of one picture at once, as on
a page. Sizes are font sizes in pixels; capitals are about 0.7 of that high. Fonts come with Pillow, matplotlib and two packages of this project.
"""

from __future__ import annotations

import argparse
import random
import time
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

from pixel_reasoner.operations import _ocr

WORDS = (
    *("Oslo", "Lima", "Bern", "Kyiv", "Nuuk", "Graz", "Platform", "Invoice", "Total", "Order"),
    *("Quantity", "Temperature", "Voltage", "Sample", "Exit", "Departures", "Chapter", "Figure"),
    *("weight", "height", "pressure", "fresh", "water", "market", "garden", "orange", "quick"),
    *("EXIT", "STOP", "CAUTION", "FRAGILE", "OPEN", "MENU", "SALE", "NORTH"),
)
_MATPLOTLIB = Path(mpl.get_data_path()) / "fonts" / "ttf"
FONTS: dict[str, Path | None] = {
    "Pillow (Aileron)": None,
    "Caladea Bold": Path(str(files("font_caladea") / "files" / "Caladea-Bold.ttf")),
    "Caladea Regular": Path(str(files("font_caladea") / "files" / "Caladea-Regular.ttf")),
    "Hanken Grotesk": Path(
        str(files("font_hanken_grotesk") / "files" / "HankenGrotesk-SemiBold.otf")
    ),
    "DejaVu Sans": _MATPLOTLIB / "DejaVuSans.ttf",
    "DejaVu Sans Bold": _MATPLOTLIB / "DejaVuSans-Bold.ttf",
    "DejaVu Sans Mono": _MATPLOTLIB / "DejaVuSansMono.ttf",
    "DejaVu Serif": _MATPLOTLIB / "DejaVuSerif.ttf",
    "STIX General": _MATPLOTLIB / "STIXGeneral.ttf",
    "Computer Modern": _MATPLOTLIB / "cmr10.ttf",
}
OVERSAMPLING = 8
INKS = (("black", "white"), ("white", "#204080"), ("#303030", "#f0e8d0"), ("#a01010", "#ffffff"))


class Miss(NamedTuple):
    """Line that was not read exactly."""

    font: str
    size: int
    wanted: str
    got: str


def random_line(rng: random.Random) -> str:
    """Return a line as on signs, forms and tables: words, numbers, times, prices."""
    parts = [rng.choice(WORDS)]
    kind = rng.randrange(5)
    if kind == 0:
        parts.append(str(rng.randint(2, 9999)))
    elif kind == 1:
        parts.append(f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}")
    elif kind == 2:
        parts.append(f"{rng.randint(1, 999)}.{rng.randint(0, 99):02d}")
    elif kind == 3:
        parts.append(rng.choice(WORDS))
    else:
        parts += [rng.choice(WORDS), str(rng.randint(10, 99))]
    return " ".join(parts)


def font_of(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font at a size in pixels."""
    path = FONTS[name]
    if path is None:
        return ImageFont.load_default(size=size)  # type: ignore[return-value]
    return ImageFont.truetype(str(path), size=size)


def draw(
    lines: list[str], name: str, size: int, rng: random.Random, *, hinted: bool
) -> Image.Image:
    """Return a picture of some lines, with a margin as a crop has it.

    Args:
        lines: of text.
        name: of the font.
        size: of the font in pixels.
        rng: chooses margins and colours.
        hinted: whether glyphs are moved to whole pixels; otherwise text is drawn larger and scaled down, as in photographs,
            scans, and renderers with fractional positions.
    """
    ink, paper = rng.choice(INKS)
    scale = 1 if hinted else OVERSAMPLING
    font = font_of(name, size * scale)
    step = round(1.6 * size)
    width = max(font.getlength(line) for line in lines) / scale
    left, top = (rng.randint(3, max(4, size)) for _ in range(2))
    shape = (round(width) + left + rng.randint(3, 20), step * len(lines) + top + 4)
    image = Image.new("RGB", (shape[0] * scale, shape[1] * scale), paper)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((left * scale, (top + number * step) * scale), line, font=font, fill=ink)
    return image if hinted else image.resize(shape, Image.Resampling.BOX)


def read_back(
    name: str, size: int, count: int, *, is_block: bool, hinted: bool
) -> tuple[list[Miss], float]:
    """Return the lines of a font and size that are not read exactly, and the seconds per line."""
    rng = random.Random(f"read_text/{name}/{size}")
    wanted = [random_line(rng) for _ in range(count)]
    groups = [wanted] if is_block else [[line] for line in wanted]
    misses: list[Miss] = []
    started = time.process_time()
    for group in groups:
        image = draw(group, name, size, rng, hinted=hinted)
        found = [one.text for one in _ocr.recognize(image)]
        got = [" ".join(one.split()) for one in found]
        if not is_block:
            got = [" ".join(got)]
        misses += [Miss(name, size, one, str(got)) for one in group if one not in got]
    return misses, (time.process_time() - started) / count


def main() -> None:
    """Read the arguments, read the lines, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="8,10,12,14,16,20,28,40")
    parser.add_argument("--lines", type=int, default=4)
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--hinted", action="store_true")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    _ocr.recognize(Image.new("RGB", (64, 64)))  # loads the models
    misses: list[Miss] = []
    print("| font | " + " | ".join(f"{size} px" for size in sizes) + " | CPU s per line |")
    print("| --- |" + " --- |" * (len(sizes) + 1))
    for name in FONTS:
        shares, seconds = [], 0.0
        for size in sizes:
            found, per_line = read_back(
                name, size, options.lines, is_block=options.blocks, hinted=options.hinted
            )
            misses += found
            seconds += per_line
            shares.append(f"{options.lines - len(found)}/{options.lines}")
        print(f"| {name} | {' | '.join(shares)} | {seconds / len(sizes):.2f} |", flush=True)
    for miss in misses:
        print(f"{miss.font}, {miss.size} px: {miss.wanted!r} was read as {miss.got}")


if __name__ == "__main__":
    main()
