"""Base class of all records: immutable, unknown keys are errors."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer


class Record(BaseModel):
    """Base of all records: immutable, unknown keys are errors."""

    # A model may write NaN as a coordinate, and a logprob may be -inf: both must come back as they were.
    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, ser_json_inf_nan="constants"
    )


def _packed(typecode: str) -> BeforeValidator:
    """A list of numbers becomes a C array: 4 bytes a token instead of some 60 as Python objects."""
    return BeforeValidator(
        lambda values: values if isinstance(values, array) else array(typecode, values)
    )


_AS_LIST = PlainSerializer(list, return_type=list)

if TYPE_CHECKING:  # before Python 3.12 an array cannot be subscripted when it runs
    TokenIds = array[int]
    Logprobs = array[float]
else:
    TokenIds = Annotated[array, _packed("i"), _AS_LIST]
    Logprobs = Annotated[array, _packed("f"), _AS_LIST]
