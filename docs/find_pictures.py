"""Draw the pictures of docs/find.md with the commands of that page.

python docs/find_pictures.py        # writes docs/find.webp and docs/find-proof.webp
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

from PIL import Image

from pixel_reasoner.api import MomentsSpec, render_moments
from pixel_reasoner.moments_api import ClipOptions, FindSpec, annotated_model, write_find

DOCS = Path(__file__).parent
WIDTH_PX = 1200
QUERIES = ("a red ball rolls through the picture", "a person's face", "a blue cat")


def main() -> None:
    """Search the clip, redact the face, and write both sheets at a smaller size."""
    with tempfile.TemporaryDirectory() as folder:
        world, runs = Path(folder, "world"), Path(folder)
        render_moments(MomentsSpec(count=1, duration_s=40), world)
        model, videos = annotated_model(world), (str(world / "media"),)
        clips = ClipOptions(cut="exact", reframe=Fraction(9, 16))
        write_find(FindSpec(out=runs / "a", videos=videos, queries=QUERIES, clips=clips), model)
        safe = FindSpec(
            out=runs / "b", videos=videos, queries=QUERIES[1:2], clips=ClipOptions(redact="box")
        )
        write_find(safe, model)
        save(runs / "a" / "contact-sheet.webp", DOCS / "find.webp")
        save(next((runs / "b" / "redacted").glob("*.webp")), DOCS / "find-proof.webp", 900)


def save(source: Path, target: Path, max_height: int | None = None) -> None:
    """Write a picture at the width of the page; only its top, if it is high."""
    with Image.open(source) as image:
        height = round(image.height * WIDTH_PX / image.width)
        small = image.convert("RGB").resize((WIDTH_PX, height), Image.Resampling.LANCZOS)
    small.crop((0, 0, WIDTH_PX, min(height, max_height or height))).save(
        target, quality=80, method=6
    )


if __name__ == "__main__":
    main()
