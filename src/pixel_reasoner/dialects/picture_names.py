"""Picture names in calls. This project numbers pictures from 1; some families count from 0, others use words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pixel_reasoner.schema.trace import Picture


class PictureNames(Protocol):
    """Naming scheme for the pictures of a conversation.

    `pictures` are all pictures in the context of the model, by number. If they are unknown, one picture is assumed.
    """

    @property
    def description(self) -> str:
        """Description of the argument in a tool definition."""
        ...

    def number(self, name: Any, pictures: Sequence[Picture]) -> Any:
        """Return the number of the picture with this name. An invalid name is returned unchanged."""

    def name(self, number: int, pictures: Sequence[Picture]) -> Any:
        """Return the name of the picture with this number."""

    def valid_names(self, pictures: Sequence[Picture]) -> str:
        """Return a description of all names, for error messages to the model."""
        ...


@dataclass(frozen=True, kw_only=True)
class NumberedFrom:
    """Numbers.

    >>> FROM_0.number(0, ()), FROM_0.name(3, ())
    (1, 2)
    """

    first: int

    @property
    def description(self) -> str:
        """Description of the argument in a tool definition."""
        return f"The number of the picture, starting from {self.first}"

    def number(self, name: Any, pictures: Sequence[Picture]) -> Any:
        """See `PictureNames`."""
        del pictures
        is_number = isinstance(name, int | float) and not isinstance(name, bool)
        return name - self.first + 1 if is_number and self.first != 1 else name

    def name(self, number: int, pictures: Sequence[Picture]) -> Any:
        """See `PictureNames`."""
        del pictures
        return number + self.first - 1

    def valid_names(self, pictures: Sequence[Picture]) -> str:
        """See `PictureNames`."""
        return f"pictures are numbered {self.first} to {len(pictures) + self.first - 1}"


FROM_1, FROM_0 = NumberedFrom(first=1), NumberedFrom(first=0)
