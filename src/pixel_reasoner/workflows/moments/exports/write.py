"""Files for editors, players and tables, written from the results of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av

from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import atomic_path, file_name
from pixel_reasoner.workflows.moments.exports import cues as cue_files
from pixel_reasoner.workflows.moments.exports.chapters import write_chapters
from pixel_reasoner.workflows.moments.exports.cues import Cue
from pixel_reasoner.workflows.moments.exports.edl import edl_text
from pixel_reasoner.workflows.moments.exports.fcpxml import fcpxml_text
from pixel_reasoner.workflows.moments.exports.otio import otio_text
from pixel_reasoner.workflows.moments.exports.sequence import (
    Clip,
    Sequence as Timeline,
    sequence_path,
    sequences,
)
from pixel_reasoner.workflows.moments.exports.xmp import xmp_path, xmp_text
from pixel_reasoner.workflows.moments.moment import VideoMoments
from pixel_reasoner.workflows.moments.new_files import check_new, write_new

FORMATS = ("edl", "fcpxml", "otio", "srt", "vtt", "xmp", "chapters", "chapters-mp4")
_TIMELINES: dict[str, Callable[[Timeline], str]] = {"edl": edl_text, "otio": otio_text}
_CUES: dict[str, tuple[str, Callable[[Iterable[Cue]], str]]] = {
    "srt": (".srt", cue_files.srt_text),
    "vtt": (".vtt", cue_files.vtt_text),
    "chapters": (".ffmetadata", cue_files.ffmetadata_text),
}


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the formats in a comma-separated list; `all` means all.

    Raises:
        UsageError: an unknown format.

    >>> parse_formats("edl, vtt,edl")
    ('edl', 'vtt')
    """
    if text.strip() == "all":
        return FORMATS
    names = tuple(dict.fromkeys(one.strip().lower() for one in text.split(",") if one.strip()))
    if unknown := [name for name in names if name not in FORMATS]:
        raise UsageError(
            expected=f"formats of {', '.join(FORMATS)}, or all",
            got=repr(unknown[0]),
            fix="name some of these, separated by commas",
        )
    return names


def write_exports(
    results: Sequence[VideoMoments],
    folder: Path,
    formats: Sequence[str],
    *,
    title: str = "Moments",
    handles_s: Fraction = Fraction(0),
    overwrite: bool = False,
) -> Iterator[Path]:
    """Write the moments in some formats, and yield each path.

    Timelines (EDL, FCPXML, OTIO) contain all moments one after the other, one timeline per frame rate. The other formats are
    one file per video.

    Args:
        results: of all videos.
        folder: of the files.
        formats: of `FORMATS`.
        title: of timelines.
        handles_s: seconds added before and after each moment on timelines.
        overwrite: replace existing files.

    Raises:
        OutputError: a file cannot be written.
        UsageError: a file exists, or a missing package.
    """
    clips = list(timeline_clips(results, handles_s))
    found = sequences(clips, title)
    for name in formats:
        if name == "fcpxml" and clips:
            yield write_new(
                folder / "moments.fcpxml", fcpxml_text(found, title), overwrite=overwrite
            )
        elif name in _TIMELINES:
            for number, one in enumerate(found, start=1):
                path = sequence_path(folder / f"moments.{name}", one, number)
                yield write_new(path, _TIMELINES[name](one), overwrite=overwrite)
    for stem, result in zip(unique_stems(results), results, strict=True):
        yield from _write_video(result, folder, stem, formats, overwrite)


def _write_video(
    result: VideoMoments, folder: Path, stem: str, formats: Sequence[str], overwrite: bool
) -> Iterator[Path]:
    if result.index is None or not result.moments:
        return
    cues = moment_cues(result)
    for name in formats:
        if name in _CUES:
            suffix, text = _CUES[name]
            yield write_new(folder / f"{stem}{suffix}", text(cues), overwrite=overwrite)
        elif name == "xmp":
            yield write_new(
                xmp_path(folder / f"{stem}{result.video.suffix}"),
                xmp_text(cues),
                overwrite=overwrite,
            )
        elif name == "chapters-mp4":
            path = folder / f"{stem}.chapters.mp4"
            check_new(path, overwrite=overwrite)
            with atomic_path(path, av.error.FFmpegError) as part:
                write_chapters(result.index, cues, part)
            yield path


def timeline_clips(results: Iterable[VideoMoments], handles_s: Fraction) -> Iterator[Clip]:
    """Yield the clips of a timeline: the moments with handles, numbered over all videos."""
    number = 0
    for result in results:
        for moment in result.moments if result.index else ():
            number += 1
            assert result.index is not None
            yield Clip(
                result.index,
                moment.span.with_handles(result.index, handles_s),
                f"{number:03} {moment.query.text}",
                f"score {moment.score:.2f}",
            )


def moment_cues(result: VideoMoments) -> list[Cue]:
    """Return the moments as cues on the clock of the video."""
    return [Cue(one.start_s, one.end_s, one.query.text) for one in result.moments]


def unique_stems(results: Iterable[VideoMoments]) -> list[str]:
    """Return a file name for each video, all different, whatever the case of letters."""
    stems: list[str] = []
    seen: set[str] = set()
    for result in results:
        stem, number = file_name(result.video.stem), 1
        while (name := stem if number == 1 else f"{stem}-{number}").casefold() in seen:
            number += 1
        seen.add(name.casefold())
        stems.append(name)
    return stems
