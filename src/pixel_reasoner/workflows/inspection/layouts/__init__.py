"""Folder layouts of inspection data sets. `read_dataset` detects the layout; `--layout` names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.workflows.inspection.layouts import folders, mvtec, realiad, visa
from pixel_reasoner.workflows.inspection.samples import Dataset


class Layout(NamedTuple):
    """One layout."""

    detect: Callable[[Path], bool]
    """whether a folder has it"""
    read: Callable[[Path], Dataset]


LAYOUTS: Mapping[str, Layout] = {
    "mvtec": Layout(mvtec.is_mvtec, mvtec.read_mvtec),
    "mvtec2": Layout(mvtec.is_mvtec2, mvtec.read_mvtec2),
    "visa": Layout(visa.is_visa, visa.read_visa),
    "realiad": Layout(realiad.is_realiad, realiad.read_realiad),
    "anomalib": Layout(folders.is_anomalib, folders.read_anomalib),
    "plain": Layout(folders.is_plain, folders.read_plain),
}
"""from the most specific"""


def read_dataset(root: Path, layout: str = "auto") -> Dataset:
    """Read the photos of a folder or one file.

    Args:
        root: folder of one category, or of several.
        layout: name in `LAYOUTS`, or `auto`.

    Raises:
        UsageError: an unknown layout.
        InputError: no such folder, or no pictures in it.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(
            expected=f"a layout: auto, {', '.join(LAYOUTS)}", got=repr(layout), fix="name one"
        )
    if not root.exists():
        raise InputError(
            expected="a folder of pictures", got=f"{root}, which does not exist", fix="check it"
        )
    if layout == "auto":
        layout = next((name for name, one in LAYOUTS.items() if one.detect(root)), "plain")
    found = LAYOUTS[layout].read(root)
    if not found.samples:
        raise InputError(
            expected=f"pictures in the layout {layout}",
            got=f"none in {root}",
            fix="check the folder, or name another --layout",
        )
    return found
