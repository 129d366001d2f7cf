"""Specification of an inspection: what a good part is, classes of defects, regions, thresholds. One TOML file.

    product = "bracket"
    good = "grey plate with four round holes and a printed label"

    [defects.scratch]
    description = "thin line in the surface"
    severity = "major"
    aliases = ["scratches"]

An unknown key is an error that suggests the nearest one.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.schema.geometry import RecordedBox
from pixel_reasoner.schema.record import Record

Severity = Literal["critical", "major", "minor"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""from the worst"""
ANOMALY = "anomaly"
"""class of a difference that nobody has named"""
RESERVED = ("ok", "good", "none", "unsure")
"""words of an answer that are no class"""
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


class DefectClass(Record):
    """One class of defects."""

    description: str = ""
    """how it looks, for the question to the model"""
    severity: Severity = "major"
    aliases: tuple[str, ...] = ()
    """other names of it in answers, folders and corrections"""
    min_size_px: NotNegative = 0
    """findings whose longest side is smaller are tolerated, in pixels of the photo"""
    max_count: Annotated[int, Field(ge=0)] = 0
    """so many findings on one photo are tolerated"""


class Region(Record):
    """Rectangle of the reference; of the photo, if there are no references."""

    box: RecordedBox
    """left, top, right, bottom as fractions of the picture"""
    use: Literal["inspect", "ignore"] = "inspect"
    """`inspect`: only these are inspected; `ignore`: these are not"""


class Alignment(Record):
    """Limits of the registration. A photo beyond them is `unsure: not aligned`."""

    max_shift: Share = 0.25
    """of the part, as a fraction of the picture"""
    max_rotation_deg: Annotated[float, Field(ge=0, le=180)] = 20.0
    max_scale: Annotated[float, Field(ge=1, le=2)] = 1.25
    """factor between the sizes of the part in the photo and in the reference, or its inverse"""
    max_error_px: Annotated[float, Field(gt=0)] = 1.0
    """median distance between a point of the reference and the same point of the photo, in working pixels"""
    min_correlation: Share = 0.7
    """of the photo with the aligned reference"""
    min_fit: Share = 0.5
    """share of the landmarks of the reference that are at their place in the photo"""
    min_visible: Share = 0.9
    """share of the inspected regions that the photo shows"""


class Difference(Record):
    """Comparison with the references."""

    smallest_defect_px: Annotated[float, Field(ge=1)] | None = None
    """longest side of the smallest defect, in pixels of the photo. A smaller value costs time. None: as small as a
    working picture of 4 megapixels shows"""
    max_proposals: Annotated[int, Field(ge=1, le=20)] = 6
    """numbered places on one photo that the model must look at"""


class Decision(Record):
    """Thresholds of the score: the largest difference from the references, 1 = the largest among the references."""

    look_from: NotNegative = 1.1
    """score of a place from which it is a proposal"""
    defect_from: NotNegative = 1.6
    """score of a photo from which it is a defect, without a model"""
    max_rejected_score: NotNegative | None = None
    """with a model: a photo with a larger score whose proposals it rejects is `unsure`, not `ok`. None: it is `ok`"""
    min_agreement: Share = 0.6
    """share of equal answers below which a photo is `unsure`"""
    max_miss_rate: Share | None = None
    """share of missed defects for which `defect_from` was chosen"""
    origin: str = "default, not chosen from data: provisional"
    """where the thresholds come from"""
    date: str = ""
    """when they were chosen, ISO 8601"""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.look_from > self.defect_from:
            raise ValueError("look_from must be at most defect_from")
        return self


class InspectionSpec(Record):
    """Specification of an inspection."""

    product: str = "part"
    good: str = ""
    """what a good part looks like, for the question to the model"""
    reference: str = ""
    """folder of golden pictures; relative to the file"""
    part_pattern: str = ""
    """regular expression on the path of a photo; its first group is the number of the part, for several photos of one"""
    defects: dict[str, DefectClass] = Field(default_factory=dict)
    regions: dict[str, Region] = Field(default_factory=dict)
    alignment: Alignment = Alignment()
    difference: Difference = Difference()
    decision: Decision = Decision()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        owners: dict[str, str] = {}
        for name, one in self.defects.items():
            for label in (name, *one.aliases):
                key = label_key(label)
                if not key or key in RESERVED:
                    raise ValueError(f"{label!r} cannot be the name of a defect")
                if owners.setdefault(key, name) != name:
                    raise ValueError(f"{label!r} is a name of {owners[key]} and of {name}")
        return self

    def defect_class(self, label: str) -> str | None:
        """Return the class that has a name or an alias; None if there is none. Case and punctuation do not matter.

        >>> spec = InspectionSpec(defects={"missing_hole": DefectClass(aliases=("no hole",))})
        >>> spec.defect_class("No-Hole"), spec.defect_class("Missing hole"), spec.defect_class("dent")
        ('missing_hole', 'missing_hole', None)
        """
        key = label_key(label)
        for name, one in self.defects.items():
            if key in {label_key(label) for label in (name, *one.aliases)}:
                return name
        return None

    def severity(self, name: str) -> Severity:
        """Return the severity of a class; `major` for one that is not in the specification."""
        found = self.defects.get(name)
        return found.severity if found else "major"

    def inspected(self) -> list[Region]:
        """Return the regions that are inspected; empty for the whole picture."""
        return [one for one in self.regions.values() if one.use == "inspect"]

    def ignored(self) -> list[Region]:
        """Return the regions that are not inspected."""
        return [one for one in self.regions.values() if one.use == "ignore"]

    def sha256(self) -> str:
        """Return the hash of all values, independent of comments and order in the file."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class SpecFile(NamedTuple):
    """A specification and its file."""

    spec: InspectionSpec
    path: Path | None = None

    @property
    def reference(self) -> Path | None:
        """Folder of golden pictures that the specification names."""
        if not self.spec.reference:
            return None
        folder = self.path.parent if self.path else Path()
        return folder / self.spec.reference


def label_key(label: str) -> str:
    """Return a name in lower case with single underscores, for comparisons.

    >>> label_key(" Missing-hole ")
    'missing_hole'
    """
    return "_".join("".join(c if c.isalnum() else " " for c in label.casefold()).split())


def read_spec(path: Path) -> SpecFile:
    """Read a specification.

    Raises:
        InputError: the file cannot be read or is not TOML.
        UsageError: an unknown key or an invalid value.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            expected="an inspection as a TOML file",
            got=f"{path}: {reason(error)}",
            fix="`pixel-reasoner init inspect` writes one",
        ) from error
    return SpecFile(parse_spec(table, str(path)), path)


def parse_spec(table: Mapping[str, Any], where: str = "the specification") -> InspectionSpec:
    """Return the specification in a table.

    Raises:
        UsageError: an unknown key or an invalid value.

    >>> parse_spec({"defects": {"scratch": {"severty": "minor"}}})
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected a key of defects.scratch in the specification; got severty. Fix: use severity
    """
    try:
        return InspectionSpec.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
    place = [str(one) for one in first["loc"]]
    if first["type"] == "extra_forbidden":
        table_name, key = ".".join(place[:-1]), place[-1]
        known = _fields_at(place[:-1])
        near = get_close_matches(key, known, 1) or [f"one of {', '.join(known)}"]
        raise UsageError(
            expected=f"a key of {table_name or 'an inspection'} in {where}",
            got=key,
            fix=f"use {near[0]}",
        )
    got = f"{'.'.join(place)} = {first['input']!r}" if place and first["loc"] else "a conflict"
    raise UsageError(
        expected=f"a valid inspection in {where}",
        got=f"{got[:200]}: {first['msg'].removeprefix('Value error, ')}",
        fix="correct the value; docs/inspect.md explains all keys",
    )


def _fields_at(place: list[str]) -> list[str]:
    """Return the keys of the table at a place."""
    model: type[BaseModel] = InspectionSpec
    for number, name in enumerate(place):
        tables: dict[str, type[BaseModel]] = {
            "defects": DefectClass,
            "regions": Region,
            "alignment": Alignment,
            "difference": Difference,
            "decision": Decision,
        }
        if number == 0 and name in tables:
            model = tables[name]
    return list(model.model_fields)
