"""CMX 3600 edit decision lists.

Own writer: the one of OpenTimelineIO writes no FCM line, ignores the start of the timeline, and turns 29.97 into
drop-frame by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from pixel_reasoner.errors import UsageError
from pixel_reasoner.workflows.moments.exports.sequence import Clip, Sequence, one_line_text

MAX_EVENTS = 999
MAX_REEL_CHARS = 8
MAX_COMMENT_CHARS = 70


def edl_text(sequence: Sequence) -> str:
    """Return the list of a sequence, with lines that end in CRLF.

    Raises:
        UsageError: more than 999 clips.
    """
    if len(sequence.clips) > MAX_EVENTS:
        raise UsageError(
            expected=f"at most {MAX_EVENTS} clips in an EDL",
            got=str(len(sequence.clips)),
            fix="export FCPXML or OTIO, or fewer videos at once",
        )
    rate = sequence.rate
    reels = reel_names(clip.index.path for clip in sequence.clips)
    lines = [
        f"TITLE: {ascii_text(sequence.title)}",
        f"FCM: {'DROP FRAME' if rate.drop else 'NON-DROP FRAME'}",
        "",
    ]
    for number, (clip, position) in enumerate(sequence.placed(), start=1):
        record = sequence.start_frame + position
        labels = (
            clip.source_in,
            clip.source_in + clip.num_frames,
            record,
            record + clip.num_frames,
        )
        reel, track = reels[clip.index.path], "B" if clip.index.audio else "V"
        times = " ".join(rate.timecode(frame) for frame in labels)
        lines.append(f"{number:03}  {reel:<8} {track:<5} C        {times}")
        lines += _comments(clip, rate.timecode(record))
    return "\r\n".join(lines) + "\r\n"


def _comments(clip: Clip, label: str) -> Iterable[str]:
    yield f"* FROM CLIP NAME: {ascii_text(clip.index.path.name)}"
    yield f"* LOC: {label} GREEN   {ascii_text(clip.name)}"
    if clip.note:
        yield f"* COMMENT: {ascii_text(clip.note)}"


def reel_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Return a reel name for each video: at most 8 of A-Z and 0-9, all different.

    >>> list(reel_names([Path("a/My clip.mov"), Path("b/My clip.mov"), Path("é.mp4")]).values())
    ['MYCLIP', 'MYCLIP2', 'E']
    """
    reels: dict[Path, str] = {}
    for path in paths:
        if path in reels:
            continue
        stem = re.sub(r"[^A-Z0-9]", "", ascii_text(path.stem).upper())[:MAX_REEL_CHARS] or "REEL"
        name, number = stem, 1
        while name in reels.values():
            number += 1
            name = f"{stem[: MAX_REEL_CHARS - len(str(number))]}{number}"
        reels[path] = name
    return reels


def ascii_text(text: str) -> str:
    """Return a text in printable ASCII on one line; letters lose their accents, other characters become `?`.

    >>> ascii_text("Zoë — 1")
    'Zoe ? 1'
    """
    plain = unicodedata.normalize("NFKD", one_line_text(text))
    kept = "".join(c for c in plain if not unicodedata.combining(c))
    return kept.encode("ascii", "replace").decode()[:MAX_COMMENT_CHARS]
