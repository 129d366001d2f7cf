"""Specifications as commented TOML files: a first one from a folder, and one with chosen thresholds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import OutputError
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.workflows.inspection.layouts import read_dataset
from pixel_reasoner.workflows.inspection.samples import Dataset
from pixel_reasoner.workflows.inspection.spec import (
    DefectClass,
    InspectionSpec,
    label_key,
)

_COMMENTS = {
    "product": "name of the part, for the question to the model",
    "good": "what a good part looks like, in one sentence",
    "reference": "folder of golden pictures, relative to this file",
    "part_pattern": "regular expression on the path; its first group is the part, for several photos of one part",
    "defects": "classes of defects: description, severity (critical, major, minor), aliases, and what is tolerated: "
    "findings smaller than min_size_px, or up to max_count on one photo",
    "regions": "rectangles [left, top, right, bottom] as fractions of the reference; use = inspect or ignore",
    "alignment": "a photo beyond these limits is `unsure: not aligned`",
    "difference": "comparison with the golden pictures",
    "decision": "thresholds of the score: 1 is the largest difference among the golden pictures",
    "smallest_defect_px": "longest side of the smallest defect in pixels of the photo; smaller costs time",
    "look_from": "score of a place from which it is a proposal",
    "defect_from": "score of a photo from which it is a defect, without a model",
    "max_rejected_score": "with a model: a photo with a larger score whose proposals it rejects is unsure",
    "min_agreement": "share of equal answers below which a photo is unsure",
    "max_error_px": "median distance between the same points, in pixels of the compared picture",
    "min_visible": "share of the part that the photo shows",
}


def first_spec(folder: Path, out: Path, layout: str = "auto") -> InspectionSpec:
    """Return a specification for the photos of a folder: its classes, and its golden pictures.

    Args:
        folder: data set or plain folder.
        out: path of the specification, to which the reference is relative.
        layout: of the folder.

    Raises:
        InputError: no pictures.
    """
    dataset = read_dataset(folder, layout)
    names = sorted({one.defect_class for one in dataset.samples if one.defect_class})
    defects = {
        label_key(name): DefectClass(
            description=name.replace("_", " "),
            aliases=(name,) if label_key(name) != name else (),
        )
        for name in names
    }
    reference = _reference(dataset)
    spec = InspectionSpec(product=label_key(folder.resolve().name) or "part", defects=defects)
    if reference is None:
        return spec
    return spec.model_copy(update={"reference": relative_reference(reference, out)})


def relative_reference(folder: Path, out: Path) -> str:
    """Return the folder of the golden pictures as a specification at `out` names it."""
    return Path(os.path.relpath(folder.absolute(), out.absolute().parent)).as_posix()


def _reference(dataset: Dataset) -> Path | None:
    """Return the folder of the golden pictures if there is one for all photos."""
    folders = {one.path.parent for one in dataset.of("train", "good")}
    return next(iter(folders)) if len(folders) == 1 else None


def write_spec(spec: InspectionSpec, path: Path, *, replace: bool = False) -> None:
    """Write a specification as commented TOML.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    if path.exists() and not replace:
        raise OutputError(
            expected="the name of a new file",
            got=f"{path}, which already exists",
            fix="choose another one with --out",
        )
    with atomic_writer(path) as file:
        file.write(spec_text(spec))


def spec_text(spec: InspectionSpec) -> str:
    """Return a specification as commented TOML. Reading it gives an equal specification.

    >>> import tomllib
    >>> from pixel_reasoner.workflows.inspection.spec import parse_spec
    >>> spec = InspectionSpec(product='a "b"', defects={"dent": DefectClass(max_count=2)})
    >>> parse_spec(tomllib.loads(spec_text(spec))) == spec
    True
    """
    values = spec.model_dump(mode="json")
    lines = ["# Specification of an inspection. docs/inspect.md explains all keys.", ""]
    tables = {name: one for name, one in values.items() if isinstance(one, dict)}
    for name, value in values.items():
        if name not in tables:
            lines += _assignment(name, value)
    for name, table in tables.items():
        lines += ["", f"# {_COMMENTS[name]}"]
        if name in ("defects", "regions"):
            for key, one in table.items():
                lines += [f"[{name}.{_key(key)}]"]
                lines += [line for k, v in one.items() for line in _assignment(k, v, False)]
                lines.append("")
            if not table:
                lines += _example(name)
        else:
            lines += [f"[{name}]", *(line for k, v in table.items() for line in _assignment(k, v))]
    return "\n".join(lines).rstrip() + "\n"


def _assignment(name: str, value: Any, is_commented: bool = True) -> Iterator[str]:
    if is_commented and name in _COMMENTS:
        yield f"# {_COMMENTS[name]}"
    if value is None:
        yield f"# {name} ="
    else:
        yield f"{name} = {_literal(value)}"


def _literal(value: Any) -> str:
    """Return a TOML value. JSON writes the same, except for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    is_bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if is_bare else _literal(name)


def _example(name: str) -> list[str]:
    if name == "defects":
        return ["# [defects.scratch]", '# description = "thin line in the surface"']
    return ["# [regions.serial_number]", "# box = [0.1, 0.8, 0.4, 0.95]", '# use = "ignore"']
