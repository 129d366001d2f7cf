"""How a workflow reports its progress, whoever displays it."""

from __future__ import annotations

from typing import Protocol


class Update(Protocol):
    """Sets the state of one progress bar."""

    def __call__(self, completed: int, note: str = "") -> None:
        """Set how many steps are done, and a short note about them."""


class ProgressReporter(Protocol):
    """Displays progress bars."""

    def start(self, title: str, total: int | None) -> Update:
        """Add a bar and return the function that moves it. `total` is None where it is not known."""


class NoProgress:
    """Displays nothing."""

    def start(self, title: str, total: int | None) -> Update:
        """Return a function that does nothing."""
        del title, total
        return lambda completed, note="": None
