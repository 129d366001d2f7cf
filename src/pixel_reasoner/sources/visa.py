"""FineWeb-VISA: web pages with a question, a short answer and the box that supports it.

Parquet files of the public set, with the columns question, short_answer, bounding_box (x1, y1, x2, y2 in pixels) and
image
(bytes, path). Pictures are written to the media folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pixel_reasoner.files import write_bytes
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.sources.base import MEDIA, SOURCES, FileSource
from pixel_reasoner.sources.boxes import boxes_on_picture
from pixel_reasoner.sources.cells import parse_text, strip_placeholders
from pixel_reasoner.sources.rows import Row, RowError, data_files, parquet_rows, try_build

COLUMNS = ("question", "short_answer", "bounding_box", "image")


class VisaSource(FileSource):
    """Web pages of FineWeb-VISA: a parquet file, or all of a folder."""

    name: ClassVar[str] = "visa"
    summary: ClassVar[str] = (
        "FineWeb-VISA: web pages, each with a question and the box of the answer"
    )

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all files."""
        for path in data_files(self.data, "*.parquet"):
            for number, row in enumerate(parquet_rows(path, COLUMNS, at_once=16)):
                name = f"visa-{path.stem}-{number}"
                yield try_build(name, partial(_page, name, row, folder / MEDIA))


SOURCES.register(VisaSource.name, VisaSource)


def _page(name: str, row: dict[str, Any], media: Path) -> Question:
    content = (row["image"] or {}).get("bytes")
    if not content:
        raise RowError("missing_file", "no picture in the row")
    question, answer = (parse_text(row[key], key) for key in ("question", "short_answer"))
    path = media / f"{name}.png"
    if not path.exists():
        write_bytes(content, path)
    media_item = MediaItem(kind="image", path=str(path))
    boxes = boxes_on_picture([row["bounding_box"]], 1, [media_item])
    return Question(
        id=name,
        text=strip_placeholders(question, 1),
        media=(media_item,),
        answer=(answer,),
        category="visa",
        needs_look=True,
        evidence=Evidence(
            boxes=tuple(boxes),
            subjects=("the part of the page that answers this",),
            findings=(f"this part of the page says {answer}",),
        ),
    )
