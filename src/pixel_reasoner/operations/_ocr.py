"""Text recognition with RapidOCR: models of the package, one thread, lines in reading order.

What makes short lines of small text exact (benchmarks/read_text.py): a margin around the region, enlargement of small
regions, and no detection for regions of one line.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.errors import UsageError, install_command, require_extra
from pixel_reasoner.schema.geometry import Box

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE_PX = 1900
"""longest side that is read; the package shrinks larger pictures itself, with wrong boxes for long strips"""
_PACKAGES = ("rapidocr", "onnxruntime")
_lock = threading.Lock()
"""arguments of a call stay on the engine, so that two threads may not share it"""


class Line(NamedTuple):
    """A line of text."""

    text: str
    box: Box
    """in fractions of the picture that was read"""
    score: float


def check_installed() -> None:
    """Raise an error unless the packages of the extra are installed.

    Raises:
        UsageError: one of them is missing; the message has the install command.
    """
    missing = next((one for one in _PACKAGES if importlib.util.find_spec(one) is None), None)
    if missing is not None:
        raise UsageError(
            expected="the packages of the operation read_text",
            got=f"{missing} is not installed",
            fix=install_command("ocr"),
        )


def recognize(image: Image.Image) -> list[Line]:
    """Return the lines of text of an RGB picture, from top to bottom and from left to right.

    Raises:
        UsageError: the packages are not installed.
    """
    import numpy as np

    with _lock:
        # Arrays are read as BGR.
        result = _engine()(np.asarray(image)[:, :, ::-1])
    if result.boxes is None or not len(result):
        return []
    return [
        Line(text, _box(corners, image.size), float(score))
        for corners, text, score in zip(result.boxes, result.txts, result.scores, strict=True)
    ]


def _box(corners: Any, size: tuple[int, int]) -> Box:
    """Return the box around four corners in pixels, in fractions."""
    sides = []
    for axis in (0, 1):
        values = [float(corner[axis]) / size[axis] for corner in corners]
        low, high = max(0.0, min(values)), min(1.0, max(values))
        low = min(low, 1 - 1 / size[axis])
        sides.append((low, max(high, low + 1 / size[axis])))
    (x1, x2), (y1, y2) = sides
    return Box(x1, y1, x2, y2)


@cache
def _engine() -> Any:
    with require_extra("ocr", "read text"):
        from rapidocr import RapidOCR
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    return RapidOCR(
        params={
            "Global.log_level": "warning",
            "Global.text_score": 0.5,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
