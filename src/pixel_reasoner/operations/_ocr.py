"""Text recognition with RapidOCR: models of the package, one thread, lines in reading order.

What makes short lines of small text exact (benchmarks/read_text.py):

1. The detector gets the region at its own size. The default of the package enlarges small pictures to 736 pixels, which takes
   6 s of CPU time instead of 0.04 s and reads no more.
2. A margin around the region, in the colour of its edge: otherwise the first character of a line at the edge is lost.
3. No classifier of the orientation: it turns short lines such as `68` upside down.
4. A zero within a word of letters is the letter: the recognizer takes an O of monospaced fonts for a zero.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.errors import UsageError, install_command, require_extra
from pixel_reasoner.schema.geometry import Box

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE_PX = 1900
"""longest side that is read; the package shrinks larger pictures itself, with wrong boxes for long strips"""
MARGIN_PX = 16
_MIN_LETTERS = 3
"""letters of a word in which a zero is the letter: `A0` is a name"""
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
    edges: tuple[tuple[float, float], ...] = ()
    """left and right edge of each character that is no blank, in fractions; empty if they are unknown"""


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
    padded = np.empty((image.height + 2 * MARGIN_PX, image.width + 2 * MARGIN_PX, 3), np.uint8)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    padded[:] = np.median(edge, axis=0)
    padded[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = pixels
    with _lock:
        # Arrays are read as BGR.
        result = _engine()(padded[:, :, ::-1], return_word_box=True, return_single_char_box=True)
    if result.boxes is None or not len(result):
        return []
    edges = _edges(result, image.width)
    return [
        Line(letters_in_words(text), _box(corners, image.size), float(score), edges.get(number, ()))
        for number, (corners, text, score) in enumerate(
            zip(result.boxes, result.txts, result.scores, strict=True)
        )
    ]


def _edges(result: Any, width: int) -> dict[int, tuple[tuple[float, float], ...]]:
    """Return the edges of the characters of each line. Results without text are skipped in `word_results`."""
    lines = [number for number, text in enumerate(result.txts) if text.strip()]
    words = [one for one in result.word_results or () if one]
    if len(words) != len(lines):
        return {}
    found = {}
    for number, line in zip(lines, words, strict=True):
        xs = [[(float(x) - MARGIN_PX) / width for x, _ in corners] for _, _, corners in line]
        found[number] = tuple((min(one), max(one)) for one in xs)
    return found


def letters_in_words(text: str) -> str:
    """Return a text in which zeros within words of letters are the letter.

    >>> letters_in_words("0slo ST0P 2005 A0")
    'Oslo STOP 2005 A0'
    """
    return re.sub(r"\w+", lambda word: _corrected(word[0]), text)


def _corrected(word: str) -> str:
    others = word.replace("0", "")
    return word.replace("0", "O") if len(others) >= _MIN_LETTERS and others.isalpha() else word


def _box(corners: Any, size: tuple[int, int]) -> Box:
    """Return the box around four corners in pixels, in fractions."""
    sides = []
    for axis in (0, 1):
        values = [(float(corner[axis]) - MARGIN_PX) / size[axis] for corner in corners]
        low, high = (min(max(value, 0.0), 1.0) for value in (min(values), max(values)))
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
