"""Media of a source row: pictures of a data set are decoded once, so that an incomplete one gives no trace."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.images import check_picture
from pixel_reasoner.media.remote_media import local_item
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, PixelBudgets


def open_row_media(question: Question, asked: Question, budgets: PixelBudgets) -> MediaContext:
    """Return the opened media of a question. Pictures of a data set are decoded: an incomplete one has a valid header.

    Args:
        question: with its original paths. Relative ones are pictures that the run itself rendered.
        asked: the question with absolute paths.
        budgets: pixel budgets of the traces.

    Raises:
        InputError: unusable media.
    """
    context = MediaContext(asked, budgets)  # decodes frames of clips and reads headers of pictures
    for item in question.media:
        is_fixed = is_url(item.path) or Path(item.path).is_absolute()
        if item.kind == "image" and is_fixed:
            with local_item(item, DEFAULT_MEDIA_LIMITS) as here:
                path = Path(here.path)
                _check_picture(path, item.page, path.stat().st_mtime_ns)
    return context


@lru_cache(maxsize=256)
def _check_picture(path: Path, page: int | None, mtime_ns: int) -> None:
    """Check a picture, once for all of its rows."""
    del mtime_ns  # part of the key
    check_picture(path, DEFAULT_MEDIA_LIMITS, page)
