"""Streaming transcript of a rollout on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixel_reasoner.rollout.state import Rollout
    from pixel_reasoner.schema.trace import Observation, ToolCall, Trace


class Transcript:
    """Printer of a rollout: the text of each turn during generation, then its calls and their results.

    Args:
        note: printed to stderr before the first text. If opening a file fails earlier, only the error is printed.
    """

    def __init__(self, note: str = "") -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._note = note
        self._text = ""

    def on_text(self, piece: str) -> None:
        """Print new text of the current turn, without its calls."""
        from rich.text import Text

        if self._note:
            self._print_note()
        printed = len(text_before_call(self._text))
        self._text += piece
        self._console.print(Text(visible(text_before_call(self._text)[printed:])), end="")

    def on_turn(self, rollout: Rollout) -> None:
        """End the text of a turn and print the results of its calls."""
        from rich.text import Text

        self._text = ""
        self._console.print()
        for line in last_turn_lines(rollout):
            self._console.print(Text(visible(line), style="cyan"))

    def stop(self) -> None:
        """End the line of an incomplete turn, so that an error starts on its own line."""
        if self._text:
            self._text = ""
            self._console.print()

    def end(self, trace: Trace) -> None:
        """Print the answer."""
        from rich.text import Text

        self._print_note()
        answer = trace.answer if trace.answer is not None else f"none ({trace.stop})"
        self._console.print(Text(visible(f"Answer: {answer}"), style="bold"))

    def _print_note(self) -> None:
        from rich.console import Console
        from rich.text import Text

        if self._note:
            Console(stderr=True, soft_wrap=True).print(Text(visible(self._note), style="dim"))
            self._note = ""


def text_before_call(text: str) -> str:
    """Return the text of a turn up to its first call."""
    from pixel_reasoner.dialects import CALL_TAGS

    for tag, _ in CALL_TAGS:
        text = text.partition(tag)[0]
    return text.rstrip("\n")


def last_turn_lines(rollout: Rollout) -> list[str]:
    """Return one line per call of the last turn and per returned picture."""
    if not rollout.turns:
        return []
    turn = rollout.turns[-1]
    calls = dict(enumerate(turn.calls))
    return [
        line
        for observation in turn.observations
        for line in _observation_lines(calls.pop(observation.call, None), observation)
    ]


def _observation_lines(call: ToolCall | None, observation: Observation) -> Iterator[str]:
    from pixel_reasoner.operations.base import call_as_written

    written = call_as_written(call) if call else "a call"
    if observation.error is not None:
        yield f"  ✗ {written}: {observation.text}"
        return
    yield f"  → {written}"
    for picture in observation.pictures:
        width, height = picture.source_px
        seen_width, seen_height = picture.seen_px
        yield (
            f"  ← picture {picture.number}: {width}x{height} px of the source, "
            f"seen at {seen_width}x{seen_height}"
        )
