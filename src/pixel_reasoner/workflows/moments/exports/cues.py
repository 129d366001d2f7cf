"""Cues on the clock of a video: SRT, WebVTT, and chapters as FFmpeg metadata."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from pixel_reasoner.workflows.moments.exports.sequence import one_line_text
from pixel_reasoner.workflows.moments.timecode import clock

_MS = Fraction(1, 1000)


class Cue(NamedTuple):
    """A text between two times, in seconds."""

    start_s: Fraction
    end_s: Fraction
    text: str


def srt_text(cues: Iterable[Cue]) -> str:
    r"""Return cues as SRT.

    >>> srt_text([Cue(Fraction(1), Fraction(5, 2), "red\ncar")])
    '1\n00:00:01,000 --> 00:00:02,500\nred car\n'
    """
    blocks = [
        f"{number}\n{clock(cue.start_s, ',')} --> {clock(cue.end_s, ',')}\n{_plain(cue.text)}\n"
        for number, cue in enumerate(_ordered(cues), start=1)
    ]
    return "\n".join(blocks)


def vtt_text(cues: Iterable[Cue]) -> str:
    r"""Return cues as WebVTT.

    >>> vtt_text([Cue(Fraction(1), Fraction(5, 2), "a < b")])
    'WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.500\na &lt; b\n'
    """
    blocks = ["WEBVTT\n"]
    for number, cue in enumerate(_ordered(cues), start=1):
        text = _plain(cue.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{number}\n{clock(cue.start_s)} --> {clock(cue.end_s)}\n{text}\n")
    return "\n".join(blocks)


def chapters(cues: Iterable[Cue]) -> list[Cue]:
    """Return cues that do not overlap: each ends at the start of the next one at the latest.

    Of several cues with the same start, the texts are joined.
    """
    found: list[Cue] = []
    for cue in _ordered(cues):
        if found and found[-1].start_s == cue.start_s:
            joined = f"{found[-1].text}; {cue.text}"
            found[-1] = Cue(cue.start_s, max(found[-1].end_s, cue.end_s), joined)
            continue
        if found and found[-1].end_s > cue.start_s:
            found[-1] = found[-1]._replace(end_s=cue.start_s)
        found.append(cue)
    return found


def ffmetadata_text(cues: Iterable[Cue]) -> str:
    r"""Return chapters in FFmpeg's metadata format, in milliseconds.

    >>> ffmetadata_text([Cue(Fraction(1), Fraction(2), "a=b")])
    ';FFMETADATA1\n\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=a\\=b\n'
    """
    blocks = [";FFMETADATA1\n"]
    for cue in chapters(cues):
        title = "".join(f"\\{c}" if c in "=;#\\" else c for c in one_line_text(cue.text))
        start, end = (round(time * 1000) for time in (cue.start_s, cue.end_s))
        blocks.append(
            f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={max(end, start + 1)}\ntitle={title}\n"
        )
    return "\n".join(blocks)


def _ordered(cues: Iterable[Cue]) -> Sequence[Cue]:
    """Return cues by start. A cue lasts at least a millisecond, because a shorter one is never displayed."""
    longer = (cue._replace(end_s=max(cue.end_s, cue.start_s + _MS)) for cue in cues)
    return sorted(longer, key=lambda cue: (cue.start_s, cue.end_s))


def _plain(text: str) -> str:
    """Return a text that no reader takes for an end of a cue or a time line; never empty."""
    return one_line_text(text).replace("-->", "→") or "-"
