"""Corrections of people: from Label Studio or COCO to training rows and regression tests.

OUT/review/rows.jsonl            rows for `pixel-reasoner synth jsonl` (docs/synthesize.md)
OUT/review/regression.jsonl      expected verdicts, for `pixel-reasoner inspect --expect`
OUT/review/golden.txt            photos that a person calls good although the run rejected them: candidates for the
                                 golden pictures
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer, reason
from pixel_reasoner.schema.geometry import Box, BoxError, Size
from pixel_reasoner.strict_json import parse_json
from pixel_reasoner.workflows.inspection.spec import ANOMALY, InspectionSpec, label_key
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow, Verdict

REVIEW = "review"
_TEXT = "Is there a defect on this {product}? Answer with its class, or with `ok`."
_FIX = "export the project from Label Studio as JSON, or give a COCO file"


@dataclass(frozen=True)
class Correction:
    """What a person says about one photo."""

    id: str
    """path below the data set, or a file name"""
    size: Size
    boxes: tuple[tuple[str, Box], ...]
    """class and place"""
    verdict: Verdict | None = None
    """None: defect if there is a box, else ok"""

    @property
    def meant(self) -> Verdict:
        """The verdict, from the boxes where it is not given."""
        return self.verdict or (Verdict.DEFECT if self.boxes else Verdict.OK)


class ReviewSummary(NamedTuple):
    """What became of the corrections."""

    rows: int
    changed: int
    """verdicts that differ from those of the run"""
    skipped: dict[str, int]
    """reason -> number of corrections that are not used"""
    out: Path


def read_corrections(path: Path) -> Iterator[Correction]:
    """Yield the corrections of a file of Label Studio or COCO.

    Raises:
        InputError: another file.
    """
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            expected="corrections as JSON", got=f"{path}: {reason(error)}", fix=_FIX
        ) from error
    try:
        if isinstance(content, list):
            yield from _label_studio(content)
        elif isinstance(content, dict) and {"images", "annotations"} <= content.keys():
            yield from _coco(content)
        else:
            raise ValueError("neither a list of tasks nor an object with images and annotations")
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise InputError(
            expected="corrections of Label Studio or COCO", got=f"{path}: {error!r}", fix=_FIX
        ) from error


def write_review(
    corrections: Iterable[Correction],
    rows: Sequence[InspectionRow],
    spec: InspectionSpec,
    out: Path,
) -> ReviewSummary:
    """Write training rows and regression tests for corrections of the photos of a run.

    The class `anomaly` is a defect of an unknown class. Another class outside the specification, or a photo outside the run, is counted and left out.

    Raises:
        OutputError: a file cannot be written.
    """
    known = _by_name(rows)
    skipped = Counter[str]()
    kept: list[tuple[Correction, InspectionRow]] = []
    for one in corrections:
        row = known.get(one.id) or known.get(Path(one.id).name)
        problem = _problem(one, row, spec)
        if problem or row is None:
            skipped[problem] += 1
        else:
            kept.append((one, row))
    folder = out / REVIEW
    _write_lines(folder / "rows.jsonl", (_training_row(*pair, spec) for pair in kept))
    _write_lines(folder / "regression.jsonl", (_expectation(*pair, spec) for pair in kept))
    changed = [(one, row) for one, row in kept if one.meant != row.verdict]
    with atomic_writer(folder / "golden.txt") as file:
        file.writelines(f"{row.path}\n" for one, row in changed if one.meant is Verdict.OK)
    return ReviewSummary(len(kept), len(changed), dict(skipped), folder)


class Mismatch(NamedTuple):
    """A photo whose verdict is not the expected one."""

    id: str
    expected: str
    got: str


def check_expectations(path: Path, rows: Iterable[InspectionRow]) -> list[Mismatch]:
    """Return the photos of a regression file whose verdict or classes differ, or that are missing.

    Raises:
        InputError: not a regression file.
    """
    by_id = {row.id: row for row in rows}
    found = []
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        for one in lines:
            row = by_id.get(one["id"])
            classes = sorted({f.defect_class for f in row.findings}) if row else []
            got = _words(row.verdict.value, classes) if row else "not inspected"
            wanted = set(one["classes"])
            if ANOMALY in wanted and wanted - {ANOMALY} <= set(classes):
                wanted = set(classes)  # a defect of an unknown class: any class is right
            expected = _words(one["verdict"], sorted(wanted))
            if got != expected:
                found.append(Mismatch(str(one["id"]), expected, got))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            expected="a regression.jsonl of --review",
            got=f"{path}: {reason(error)}",
            fix="check it",
        ) from error
    return found


def _words(verdict: str, classes: Sequence[str]) -> str:
    return f"{verdict}: {', '.join(classes)}" if verdict == "defect" and classes else verdict


# --- reading ---


def _label_studio(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Correction]:
    """Yield the last annotation of each task; tasks without one are not corrected."""
    for task in tasks:
        annotations = [
            one for one in task.get("annotations", ()) if not one.get("was_cancelled", False)
        ]
        if not annotations:
            continue
        boxes: list[tuple[str, Box]] = []
        verdict, size = None, (0, 0)
        for one in annotations[-1]["result"]:
            size = (int(one.get("original_width", 0)), int(one.get("original_height", 0)))
            value = one["value"]
            if one["type"] == "rectanglelabels":
                x, y, width, height = (float(value[n]) for n in ("x", "y", "width", "height"))
                name = value["rectanglelabels"][0]
                boxes.append((name, _box(x, y, x + width, y + height, (100, 100))))
            elif one["type"] == "choices":
                verdict = Verdict(value["choices"][0])
        yield Correction(_photo_id(task["data"]), size, tuple(boxes), verdict)


def _photo_id(data: Mapping[str, Any]) -> str:
    if "id" in data:
        return str(data["id"])
    address = urlsplit(str(data["image"]))
    query = parse_qs(address.query).get("d")
    return query[0] if query else unquote(address.path).lstrip("/")


def _coco(content: Mapping[str, Any]) -> Iterator[Correction]:
    names = {one["id"]: str(one["name"]) for one in content["categories"]}
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for one in content["annotations"]:
        by_image.setdefault(one["image_id"], []).append(one)
    for image in content["images"]:
        size = (int(image["width"]), int(image["height"]))
        boxes = []
        for one in by_image.get(image["id"], ()):
            x, y, width, height = (float(value) for value in one["bbox"])
            boxes.append((names[one["category_id"]], _box(x, y, x + width, y + height, size)))
        verdict = image.get("verdict")
        is_open = verdict in (Verdict.UNSURE, Verdict.ERROR) and not boxes
        yield Correction(
            str(image["file_name"]), size, tuple(boxes), Verdict(verdict) if is_open else None
        )


def _box(x1: float, y1: float, x2: float, y2: float, size: tuple[float, float]) -> Box:
    """Return a box that rounding may have moved a little over the edge."""
    width, height = size
    try:
        return Box.of(
            (max(0.0, x1), max(0.0, y1), min(width, x2), min(height, y2)), per=(width, height)
        )
    except BoxError as error:
        raise ValueError(str(error)) from error


# --- writing ---


def _by_name(rows: Iterable[InspectionRow]) -> dict[str, InspectionRow]:
    """Return rows by id, and by file name where it is unique."""
    listed = list(rows)
    counts = Counter(Path(row.id).name for row in listed)
    named = {Path(row.id).name: row for row in listed if counts[Path(row.id).name] == 1}
    return named | {row.id: row for row in listed}


def _problem(one: Correction, row: InspectionRow | None, spec: InspectionSpec) -> str:
    """Return why a correction is not used; empty if it is."""
    if row is None:
        return "a photo that is not in the run"
    if one.meant in (Verdict.UNSURE, Verdict.ERROR):
        return f"the verdict {one.meant.value}"
    for name, _ in one.boxes:
        if spec.defects and spec.defect_class(name) is None and label_key(name) != ANOMALY:
            return f"a class that is not in the specification: {name}"
    return ""


def _classes(one: Correction, spec: InspectionSpec) -> list[str]:
    return [
        spec.defect_class(name) or (ANOMALY if label_key(name) == ANOMALY else name)
        for name, _ in one.boxes
    ]


def _with_article(name: str) -> str:
    """Return a class in words.

    >>> _with_article("anomaly"), _with_article("missing_hole")
    ('an anomaly', 'a missing hole')
    """
    return f"{'an' if name[:1].casefold() in 'aeiou' else 'a'} {name.replace('_', ' ')}"


def _training_row(one: Correction, row: InspectionRow, spec: InspectionSpec) -> dict[str, Any]:
    classes = _classes(one, spec)
    names = list(dict.fromkeys(classes))
    shared: dict[str, Any] = {
        "id": row.id,
        "media": [{"type": "image", "path": row.path}],
        "question": _TEXT.format(product=spec.product),
        "answer": [", ".join(names) if names else Verdict.OK.value],
        "category": "inspection",
    }
    if not one.boxes:
        reason_ = "The whole part looks as described, and nothing on it stands out."
        return {**shared, "needs_look": False, "reasoning": reason_}
    return {
        **shared,
        "needs_look": True,
        "image": 1,
        "boxes": [list(box) for _, box in one.boxes],
        "box_unit": "fraction",
        "subjects": [f"the {name.replace('_', ' ')}" for name in classes],
        "findings": [f"{_with_article(name)} is visible here" for name in classes],
    }


def _expectation(one: Correction, row: InspectionRow, spec: InspectionSpec) -> dict[str, Any]:
    return {
        "id": row.id,
        "path": row.path,
        "sha256": row.audit.photo_sha256,
        "verdict": one.meant.value,
        "classes": sorted(set(_classes(one, spec))),
        "boxes": [[round(side, 6) for side in box] for _, box in one.boxes],
    }


def _write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    with atomic_writer(path) as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
