"""How a call names a picture. Inside the project pictures are numbered from 1; some families count from 0, some use words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class PictureNames(Protocol):
    """Names of pictures."""

    def number(self, name: Any, shown: int) -> Any:
        """The number of the picture with this name; what is no name, as it is.

        Args:
            name: what a call says.
            shown: how many pictures the question came with; results of operations follow them.
        """

    def name(self, number: int, shown: int) -> Any:
        """The name of the picture with this number."""

    def told(self, count: int, shown: int) -> str:
        """The names of all pictures, in what a model is told when it names none of them."""
        ...


@dataclass(frozen=True, kw_only=True)
class NumberedFrom:
    """Numbers.

    >>> FROM_0.number(0, shown=1), FROM_0.name(3, shown=1), FROM_0.told(3, shown=1)
    (1, 2, 'pictures are numbered 0 to 2')
    """

    first: int

    def number(self, name: Any, shown: int) -> Any:
        """See `PictureNames`."""
        is_number = isinstance(name, int | float) and not isinstance(name, bool)
        return name - self.first + 1 if is_number and self.first != 1 else name

    def name(self, number: int, shown: int) -> Any:
        """See `PictureNames`."""
        return number + self.first - 1

    def told(self, count: int, shown: int) -> str:
        """See `PictureNames`."""
        return f"pictures are numbered {self.first} to {count + self.first - 1}"


FROM_1, FROM_0 = NumberedFrom(first=1), NumberedFrom(first=0)
