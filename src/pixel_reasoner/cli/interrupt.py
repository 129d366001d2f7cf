"""Ctrl-C and SIGTERM: a command stops cleanly, and one line explains how to continue."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from pixel_reasoner.cli.help import CommandGroup

_MESSAGE = "stopped; finished work is kept, run the same command to continue"
_WHOLE_MESSAGE = "stopped; the output appears only when it is complete"
WHOLE_OUTPUTS = frozenset({"teach"})
"""commands whose output appears only when it is complete"""


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


class Stopped(Exception):
    """Interrupted command; its text is shown to the user."""

    def __init__(self, code: int, command: str = "") -> None:
        super().__init__(_WHOLE_MESSAGE if command in WHOLE_OUTPUTS else _MESSAGE)
        self.code = code
        """exit code: 128 plus the number of the signal"""


class InterruptibleGroup(CommandGroup):
    """Commands whose interruption is a `Stopped`: the command line library would end the process without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run the selected command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
            raise Stopped(128 + number, ctx.invoked_subcommand or "") from None


def handle_sigterm() -> None:
    """Let SIGTERM interrupt the main thread like Ctrl-C."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
