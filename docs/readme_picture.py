"""Draw one real trace of the bundled model for the README, and as a strip for docs/ask.md.

    python docs/readme_picture.py        # writes docs/trace.webp and docs/strip.webp

The scene is the first one of PixelWorld's test split. The answer is the model's; nothing is retouched.
"""

from __future__ import annotations

import tempfile
import textwrap
from importlib.resources import files
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pixel_reasoner import api
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import load_questions
from pixel_reasoner.schema.trace import Picture, Trace

OUT = Path(__file__).parent / "trace.webp"
STRIP = Path(__file__).parent / "strip.webp"
PANEL_PX, GAP_PX, TEXT_PX = 400, 24, 96
INK, FAINT, ACCENT, PAPER = "#1f2328", "#59636e", "#0550ae", "#ffffff"


def main() -> None:
    """Ask the question, draw the trace and write the files."""
    with tempfile.TemporaryDirectory() as folder:
        trace = ask(Path(folder))
        draw(trace).save(OUT, quality=85, method=6)
        print(trace.save_strip(STRIP).alt_text)


def ask(folder: Path) -> Trace:
    """Return the trace of the first test question of the family `attribute`."""
    path = api.render_world(api.WorldSpec(family="attribute", split="test", count=1), folder)
    [question] = load_questions(path)
    return api.ask(question, api.ModelSpec("tiny"))


def draw(trace: Trace) -> Image.Image:
    """Return three panels: the model's input, the crop that it asked for, and the answer."""
    source = Image.open(trace.question.media[0].path).convert("RGB")
    overview, [crop] = trace.pictures[0], trace.executed[0].pictures
    page = Image.new("RGB", (3 * PANEL_PX + 4 * GAP_PX, PANEL_PX + TEXT_PX + GAP_PX), PAPER)
    pen = ImageDraw.Draw(page)
    panels = [
        (
            _with_box(_as_seen(source, overview), crop.box),
            f"1  The model's input: {_size(overview)}",
        ),
        (_as_seen(source, crop), f"2  zoom_in returns {_size(crop)} of the original"),
    ]
    for number, (panel, title) in enumerate(panels):
        left = GAP_PX + number * (PANEL_PX + GAP_PX)
        page.paste(panel, (left, TEXT_PX))
        pen.text((left, TEXT_PX - 14), title, INK, _font(19), anchor="ls")
    pen.text((GAP_PX, 40), trace.question.text, INK, _font(26), anchor="ls")
    _answer(pen, trace, 3 * GAP_PX + 2 * PANEL_PX)
    return page


def _as_seen(source: Image.Image, picture: Picture) -> Image.Image:
    """Return a region of the source at the resolution of the model's input, enlarged to a panel."""
    x1, y1, x2, y2 = picture.box
    region = source.crop(
        (
            round(x1 * source.width),
            round(y1 * source.height),
            round(x2 * source.width),
            round(y2 * source.height),
        )
    )
    seen = region.resize(picture.seen_px, Image.Resampling.BICUBIC)
    return seen.resize((PANEL_PX, PANEL_PX), Image.Resampling.NEAREST)


def _with_box(panel: Image.Image, box: Box) -> Image.Image:
    corners = [round(value * PANEL_PX) for value in box]
    ImageDraw.Draw(panel).rectangle(corners, outline=ACCENT, width=4)
    return panel


def _answer(pen: ImageDraw.ImageDraw, trace: Trace, left: int) -> None:
    pen.text((left, TEXT_PX - 14), "3  The trace", INK, _font(19), anchor="ls")
    y = TEXT_PX + 6
    for turn in trace.turns:
        words = turn.text.partition("<tool_call>")[0].strip()
        lines = textwrap.wrap(words, 42)
        if turn.call is not None:
            box = turn.call.arguments["bbox_2d"]
            lines += [f"→ {turn.call.name}({box})"]
        for line in lines:
            pen.text((left, y), line, ACCENT if line.startswith("→") else FAINT, _font(18))
            y += 27
        y += 16
    pen.text((left, y + 8), f"Answer: {trace.answer}", INK, _font(34))


def _size(picture: Picture) -> str:
    return "{} x {} px".format(*picture.seen_px)


def _font(size_px: int) -> ImageFont.FreeTypeFont:
    file = files("font_hanken_grotesk") / "files" / "HankenGrotesk-SemiBold.otf"
    return ImageFont.truetype(str(file), size_px)


if __name__ == "__main__":
    main()
