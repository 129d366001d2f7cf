"""Text recognition with RapidOCR: models of the package, one thread, lines in reading order.

What makes short lines of small text exact (benchmarks/read_text.py):

1. The detector gets the region at its own size. The default of the package enlarges small pictures to 736 pixels, which takes
   2 to 6 s of CPU time instead of 0.04 s and reads no more.
2. No classifier of the orientation: it turns short lines such as `68` upside down.
3. Blanks come from the widths of the gaps between characters (`_text_spacing`), because the recognizer reads a wide gap within
   a word as a blank, and no blank between a word and a number.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.errors import UsageError, install_command, require_extra
from pixel_reasoner.operations._text_spacing import Character, spaced_text
from pixel_reasoner.schema.geometry import Box

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE_PX = 1900
"""longest side that is read; the package shrinks larger pictures itself, with wrong boxes for long strips"""
_PACKAGES = ("rapidocr", "onnxruntime")
_PARAMS = {
    "Global.log_level": "warning",
    "Global.text_score": 0.5,
    "Global.use_cls": False,
    "Det.limit_type": "max",
    "Det.limit_side_len": 1920,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}
_lock = threading.Lock()
"""arguments of a call stay on the engine, so that two threads may not share it"""


class Line(NamedTuple):
    """A line of text."""

    text: str
    box: Box
    """in fractions of the picture that was read"""
    score: float
    characters: tuple[Character, ...] = ()
    """of the text without blanks, in pixels; empty if they are unknown"""


@cache
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

    pixels = np.asarray(image)
    with _lock:
        # Arrays are read as BGR.
        result = _engine()(pixels[:, :, ::-1], return_word_box=True, return_single_char_box=True)
    if result.boxes is None or not len(result):
        return []
    characters = _characters(result)
    return [
        Line(
            spaced_text(text, characters.get(number, ()), np.asarray(image.convert("L"))),
            _box(corners, image.size),
            float(score),
            tuple(characters.get(number, ())),
        )
        for number, (corners, text, score) in enumerate(
            zip(result.boxes, result.txts, result.scores, strict=True)
        )
    ]


def _characters(result: Any) -> dict[int, list[Character]]:
    """Return the characters of each line with their boxes. Results without text are skipped in `word_results`."""
    lines = [number for number, text in enumerate(result.txts) if text.strip()]
    words = [one for one in result.word_results or () if one]
    if len(words) != len(lines):
        return {}
    found = {}
    for number, line in zip(lines, words, strict=True):
        found[number] = [
            Character(
                text,
                min(float(x) for x, _ in corners),
                max(float(x) for x, _ in corners),
                min(float(y) for _, y in corners),
                max(float(y) for _, y in corners),
            )
            for text, _, corners in line
        ]
    return found


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
    return RapidOCR(params=_PARAMS)
