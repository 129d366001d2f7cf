"""Base classes of all records, with JSON serialization and schema versions.

Records are immutable, and unknown keys are errors. File formats are versioned: every written line contains
`schema_version`, older lines are migrated (`schema.migrate`), and newer lines raise an error.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from pixel_reasoner.errors import InputError
from pixel_reasoner.strict_json import parse_json

MAX_DEPTH = 128
"""nesting depth of a record: arguments of a call (`strict_json.MAX_DEPTH`) inside of a trace"""
SCHEMA_VERSION = 2
"""Version of all record formats. Version 1 has no `schema_version` field."""


class Record(BaseModel):
    """Base class of all records: immutable, unknown keys are errors."""

    # A model may write NaN as a coordinate, and a logprob may be -inf: both must survive a round trip.
    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, ser_json_inf_nan="constants"
    )


class VersionedRecord(Record):
    """Record that is written to files, one JSON object with `schema_version` per line or file."""

    record_name: ClassVar[str] = "record"
    """name of the record in error messages"""

    def to_line(self) -> str:
        """Return one line of JSON. Fields with default values are omitted."""
        fields = self.model_dump_json(exclude_defaults=True)
        comma = "," if len(fields) > 2 else ""
        return f'{{"schema_version":{SCHEMA_VERSION}{comma}{fields[1:]}'

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Parse a line of JSON. Older versions are migrated.

        Raises:
            InputError: the line is not such a record, or a newer version wrote it.
        """
        try:
            # The fast path: a line of this version needs no migration and no second parse.
            if line.startswith(_CURRENT_PREFIX) and line[len(_CURRENT_PREFIX)] in ",}":
                rest = line[len(_CURRENT_PREFIX) :]
                return cls.model_validate_json("{" + rest.removeprefix(","))
            # A model may write NaN as a coordinate: it is an argument of a rejected call.
            return cls.from_object(parse_json(line, MAX_DEPTH, is_finite=False))
        except ValidationError as error:
            raise _invalid(cls.record_name, _first_problem(error)) from error
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise _invalid(cls.record_name, f"the line: {error}") from error

    @classmethod
    def from_object(cls, value: Any) -> Self:
        """Parse a JSON value. Older versions are migrated.

        Raises:
            InputError: the value is not such a record, or a newer version wrote it.
        """
        if not isinstance(value, dict):
            raise _invalid(cls.record_name, f"a JSON {type(value).__name__}, not an object")
        version = value.get("schema_version", 1)
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise _invalid(cls.record_name, f"schema_version: {version!r} is not a version")
        if version > SCHEMA_VERSION:
            raise InputError(
                expected=f"a {cls.record_name} of schema version {SCHEMA_VERSION} or older",
                got=f"schema version {version}",
                fix="upgrade pixel-reasoner; a newer version wrote this",
            )
        fields = {name: one for name, one in value.items() if name != "schema_version"}
        try:
            return cls.model_validate(cls.migrate(fields, version))
        except ValidationError as error:
            raise _invalid(cls.record_name, _first_problem(error)) from error

    @classmethod
    def migrate(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Convert the fields of an older version to `SCHEMA_VERSION`."""
        del version
        return fields


_CURRENT_PREFIX = f'{{"schema_version":{SCHEMA_VERSION}'


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part)[:60] for part in first["loc"][:8]) or "the line"
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown field; a newer version of pixel-reasoner may have written it"
    return f"{place}: {first['msg']}"


def _invalid(name: str, got: str) -> InputError:
    return InputError(
        expected=f"one {name} as a JSON object per line",
        got=got,
        fix="give a file written by this project, or upgrade pixel-reasoner",
    )


def _packed(typecode: str, minimum: float) -> BeforeValidator:
    """Return a validator that turns a list of numbers into a C array: 4 bytes per token instead of about 60."""

    def pack(values: Any) -> array[Any]:
        if isinstance(values, array):
            return values
        if not isinstance(values, list | tuple):
            raise ValueError("must be a list of numbers")
        try:
            packed = array(typecode, values)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"must be a list of numbers of 32 bits: {error}") from error
        if packed and (min(packed) < minimum or max(packed) == math.inf):
            raise ValueError(f"must be numbers from {minimum} on")
        return packed

    return BeforeValidator(pack)


_AS_LIST = PlainSerializer(list, return_type=list)

if TYPE_CHECKING:  # before Python 3.12 `array` is not subscriptable at run time
    TokenIds = array[int]
    Logprobs = array[float]
else:
    TokenIds = Annotated[array, _packed("i", 0), _AS_LIST]
    Logprobs = Annotated[array, _packed("f", -math.inf), _AS_LIST]
