"""H5P packages of a lesson, for Moodle, WordPress and Lumi: one to guess and one to explain for each step.

    find-N.h5p      H5P.ImageHotspotQuestion: press the place where you would look closer
    explain-N.h5p   H5P.ImageHotspots: the places of the model, each with its text

Packages contain content only. The site must have the content types in `NEEDS` (or newer minor versions) installed. Pictures are
PNG or JPEG, because H5P accepts no WebP. H5P content stores the right place in its content.json, as every H5P exercise does.
"""

from __future__ import annotations

import json
import uuid
import zipfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pixel_reasoner.files import atomic_path
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.text import visible
from pixel_reasoner.workflows.lessons.images import (
    Illustrations,
    boxes_on_sheet,
    targets_on_sheet,
)
from pixel_reasoner.workflows.lessons.lesson import LessonStep, Look, Verdict, media_type
from pixel_reasoner.workflows.lessons.papers import first_view_alt, marked_alt

FIND, EXPLAIN = "H5P.ImageHotspotQuestion", "H5P.ImageHotspots"
NEEDS: dict[str, tuple[tuple[str, int, int], ...]] = {
    FIND: ((FIND, 1, 8), ("H5P.Question", 1, 5)),
    EXPLAIN: (
        (EXPLAIN, 1, 10),
        ("FontAwesome", 4, 5),
        ("H5P.Transition", 1, 0),
        ("H5P.Text", 1, 1),
    ),
}
"""content type -> libraries with their major and minor versions"""
_DATE = (1980, 1, 1, 0, 0, 0)
_MARGIN = 0.02
"""added around a place to press"""
_SCORE = "You got :num out of :total points"


def write_packages(shown: Illustrations, folder: Path) -> list[Path]:
    """Write the packages of all steps, and return their paths.

    Raises:
        OutputError: the folder cannot be written.
    """
    paths = []
    for step in shown.lesson.steps:
        for name, library, title, fields, image in _packages(step, shown):
            path = folder / f"{name}-{step.number}.h5p"
            _write(path, _h5p_json(library, title), fields, image)
            paths.append(path)
    return paths


def needs_in_words() -> str:
    """Return the required content types.

    >>> needs_in_words()
    'H5P.ImageHotspotQuestion 1.8, H5P.ImageHotspots 1.10'
    """
    return ", ".join("{} {}.{}".format(*libraries[0]) for libraries in NEEDS.values())


def _packages(
    step: LessonStep, shown: Illustrations
) -> Iterator[tuple[str, str, str, dict[str, Any], bytes]]:
    """Yield name, main library, title, content and picture of each package of a step."""
    cells = shown.cells(step)
    targets = targets_on_sheet(step, cells)
    title = f"Question {step.number}"
    if targets:
        image, size = shown.plain(step)
        fields = _find_content(step, targets, _image_fields(image, size))
        yield "find", FIND, title, fields, image
    places = [(look, box) for look in step.reveal.looks for box in boxes_on_sheet(look, cells)[:1]]
    if places:
        image, size = shown.marked(step)
        fields = _explain_content(step, places, _image_fields(image, size))
        yield "explain", EXPLAIN, f"{title}: where the model looked", fields, image


def _find_content(step: LessonStep, targets: list[Box], image: dict[str, Any]) -> dict[str, Any]:
    task = f"{step.question} Where would you look closer? Press there."
    if step.has_mistake:
        task = f"Worked example: the model makes a mistake here. {task}"
    hotspots = [
        {
            "userSettings": {"correct": True, "feedbackText": "This place matters."},
            "computedSettings": {**_percent_box(box), "figure": "rectangle"},
        }
        for box in targets
    ]
    return {
        "imageHotspotQuestion": {
            # A group with a single field is stored as the field itself.
            "backgroundImageSettings": {**image, "alt": visible(first_view_alt(step))},
            "hotspotSettings": {
                "taskDescription": escape(visible(task)),
                "hotspot": hotspots,
                "noneSelectedFeedback": "Another place matters. Look again.",
                "showFeedback": True,
            },
        },
        "behaviour": {"enableRetry": True},
        "scoreBarLabel": _SCORE,
    }


def _explain_content(
    step: LessonStep, places: list[tuple[Look, Box]], image: dict[str, Any]
) -> dict[str, Any]:
    return {
        "image": image,
        "backgroundImageAltText": visible(marked_alt(step)),
        "globalIconType": "icon",
        "globalIcon": "plus",
        "globalColor": "#0b5cad",
        "hotspots": [_hotspot(step, look, box) for look, box in places],
    }


def _hotspot(step: LessonStep, look: Look, box: Box) -> dict[str, Any]:
    sign = {Verdict.RIGHT: "✓ right place", Verdict.WRONG: "✗ wrong place"}.get(look.verdict, "")
    parts = [f"{look.action}. {look.place}".strip(), f"“{look.words}”" if look.words else ""]
    if look is step.reveal.looks[-1]:
        parts += [step.reveal.conclusion, f"The model's answer: {step.reveal.answer}"]
    text = "".join(f"<p>{escape(visible(part))}</p>" for part in parts if part)
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{step.number}/{look.number}/{text}")
    return {
        "position": {
            "x": round(50 * (box.x1 + box.x2), 2),
            "y": round(50 * (box.y1 + box.y2), 2),
        },
        "alwaysFullscreen": False,
        "header": f"Look {look.number} {sign}".strip(),
        "content": [
            {
                "library": "H5P.Text 1.1",
                "params": {"text": text},
                "subContentId": str(identity),
                "metadata": {"contentType": "Text", "license": "U", "title": f"Look {look.number}"},
            }
        ],
    }


def _image_fields(image: bytes, size: tuple[int, int]) -> dict[str, Any]:
    suffix = "png" if media_type(image) == "image/png" else "jpg"
    return {
        "path": f"images/picture.{suffix}",
        "mime": media_type(image),
        "width": size[0],
        "height": size[1],
        "copyright": {"license": "U"},
    }


def _percent_box(box: Box) -> dict[str, float]:
    """Return a place in percent, with a margin, inside of the picture.

    >>> _percent_box(Box(0.0, 0.5, 0.1, 0.6))
    {'x': 0.0, 'y': 48.0, 'width': 12.0, 'height': 14.0}
    """
    x1, y1 = max(0.0, box.x1 - _MARGIN), max(0.0, box.y1 - _MARGIN)
    x2, y2 = min(1.0, box.x2 + _MARGIN), min(1.0, box.y2 + _MARGIN)
    sides = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {name: round(100 * side, 2) for name, side in sides.items()}


def _h5p_json(library: str, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "language": "en",
        "mainLibrary": library,
        "embedTypes": ["iframe"],
        "license": "U",
        "preloadedDependencies": [
            {"machineName": name, "majorVersion": major, "minorVersion": minor}
            for name, major, minor in NEEDS[library]
        ],
    }


def _write(path: Path, head: dict[str, Any], fields: dict[str, Any], image: bytes) -> None:
    suffix = "png" if media_type(image) == "image/png" else "jpg"
    files = {
        "h5p.json": json.dumps(head, ensure_ascii=False).encode(),
        "content/content.json": json.dumps(fields, ensure_ascii=False).encode(),
        f"content/images/picture.{suffix}": image,
    }
    with atomic_path(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in files.items():  # a fixed date: equal lessons give equal files
            package.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
