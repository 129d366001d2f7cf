"""Progress reporting of workflows, independent of the display."""

from __future__ import annotations

from typing import Protocol


class Update(Protocol):
    """Setter of one progress bar."""

    def __call__(self, completed: int, note: str = "") -> None:
        """Set the number of completed steps, and a short note."""


class ProgressReporter(Protocol):
    """Display of progress bars."""

    def start(self, title: str, total: int | None) -> Update:
        """Add a bar and return its setter. `total` is None if unknown."""


class NoProgress:
    """Displays nothing."""

    def start(self, title: str, total: int | None) -> Update:
        """Return a function that does nothing."""
        del title, total
        return lambda completed, note="": None
