"""Cuts, reframed clips, thumbnails and redacted videos of the moments of one video. A failed clip does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pixel_reasoner.errors import PixelReasonerError, UsageError
from pixel_reasoner.files import atomic_path, file_name, write_json
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.clips.cut import cut_exact, cut_fast
from pixel_reasoner.workflows.moments.clips.redact import MARGIN, Method, RedactedFile, redact
from pixel_reasoner.workflows.moments.clips.reframe import ReframedClip, reframe
from pixel_reasoner.workflows.moments.clips.subjects import followed_boxes, redacted_subjects
from pixel_reasoner.workflows.moments.frames import picture_at
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments
from pixel_reasoner.workflows.moments.sheets import write_proof_sheet
from pixel_reasoner.workflows.moments.timecode import clock
from pixel_reasoner.workflows.moments.video_index import VideoIndex, read_video_index

MAX_NAME_CHARS = 40
REFRAME_BOX_EVERY_S, REDACTION_BOX_EVERY_S = Fraction(2), Fraction(2, 5)
"""a redaction asks often: in each half second of a dissolve there is a second subject"""
KEPT = "exists, kept; --overwrite replaces it"
"""note of a file of an earlier run"""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which files are made of the moments.

    Attributes:
        cut: `exact`, `fast`, or None for no cuts.
        reframe: width divided by height of reframed clips; None for none.
        thumbnails: whether the middle frame of each moment is written.
        redact: how subjects are covered; None for no redaction. All other files are then made of the redacted video.
        margin: share of its size by which a covered box grows.
        handles_s: seconds added before and after each moment.
        sound: whether clips keep their sound.
        overwrite: replace existing files.
    """

    cut: str | None = None
    reframe: Fraction | None = None
    thumbnails: bool = False
    redact: Method | None = None
    margin: float = MARGIN
    handles_s: Fraction = Fraction(0)
    sound: bool = True
    overwrite: bool = False

    @property
    def box_every_s(self) -> Fraction | None:
        """Time between two frames in which subjects must be located; None if they need not be."""
        if self.redact is not None:
            return REDACTION_BOX_EVERY_S
        return REFRAME_BOX_EVERY_S if self.reframe is not None else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is made."""
        return not (self.cut or self.reframe or self.thumbnails or self.redact)


@dataclass(frozen=True)
class Made:
    """One file that was made, or the reason why it was not.

    Attributes:
        kind: `cut`, `reframed`, `thumbnail`, `redacted` or `proof sheet`.
        path: of the file.
        note: what differs from the request, such as the real start of a fast cut; empty if nothing does.
        error: why there is no file.
    """

    kind: str
    path: Path
    note: str = ""
    error: str | None = None


def make_clips(
    result: VideoMoments,
    folder: Path,
    stem: str,
    options: ClipOptions,
    *,
    first_number: int = 1,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
) -> Iterator[Made]:
    """Yield the files made of the moments of one video.

    Args:
        result: moments of the video.
        folder: for the folders `clips`, `reframed`, `thumbnails` and `redacted`.
        stem: name of the video, unique in the folder.
        options: which files.
        first_number: number of the first moment over all videos.
        limits: of the video.
    """
    if result.index is None or not result.moments:
        return
    maker = _Maker(result, result.index, folder, options, limits)
    if options.redact is not None:
        made = list(maker.redacted(stem))
        yield from made
        if made[0].error:
            return  # nothing is made of the video that is not redacted
        maker.index = read_video_index(made[0].path, limits)
    for number, moment in enumerate(result.moments, start=first_number):
        yield from maker.clips(moment, f"{number:03}-{clip_name(moment.query.text)}")


def clip_name(text: str) -> str:
    """Return a short file name for a description.

    >>> clip_name("A red car enters!")
    'a-red-car-enters'
    """
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return file_name("-".join(words)[:MAX_NAME_CHARS].strip("-") or "moment")


@dataclass
class _Maker:
    """Makes the files of one video from `index`: the video, or its redacted copy with the same frames."""

    result: VideoMoments
    index: VideoIndex
    folder: Path
    options: ClipOptions
    limits: MediaLimits

    def clips(self, moment: Moment, name: str) -> Iterator[Made]:
        """Yield the files of one moment."""
        options = self.options
        for kind, is_wanted, path, make in (
            ("cut", options.cut is not None, f"clips/{name}.mp4", self._cut),
            ("reframed", options.reframe is not None, f"reframed/{name}.mp4", self._reframe),
            ("thumbnail", options.thumbnails, f"thumbnails/{name}.jpg", self._thumbnail),
        ):
            if is_wanted:
                yield self._tried(kind, self.folder / path, moment, make)

    def redacted(self, stem: str) -> Iterator[Made]:
        """Yield the redacted copy of the whole video, and its proof sheet."""
        path = self.folder / "redacted" / f"{stem}.mp4"
        found: list[RedactedFile] = []
        yield self._tried(
            "redacted", path, self.result.moments[0], lambda _, path: self._redact(path, found)
        )
        if found:
            yield self._tried(
                "proof sheet",
                path.with_name(f"{stem}.proof.webp"),
                self.result.moments[0],
                lambda _, sheet: self._prove(found[0], sheet),
            )

    def _tried(
        self, kind: str, path: Path, moment: Moment, make: Callable[[Moment, Path], str]
    ) -> Made:
        """Return what was made, with its note, or its error. An existing file is kept."""
        if path.exists() and not self.options.overwrite:
            return Made(kind, path, KEPT)
        try:
            return Made(kind, path, make(moment, path))
        except PixelReasonerError as error:
            return Made(kind, path, error=str(error))

    def _cut(self, moment: Moment, path: Path) -> str:
        options, index = self.options, self.index
        span = moment.span.with_handles(index, options.handles_s)
        if options.cut == "exact":
            cut_exact(
                index,
                span,
                path,
                sound=options.sound,
                overwrite=options.overwrite,
                limits=self.limits,
            )
            return ""
        if not options.sound:
            raise UsageError(
                expected="--sound with --cut fast", got="--no-sound", fix="use --cut exact"
            )
        clip = cut_fast(index, span, path, overwrite=options.overwrite, limits=self.limits)
        if clip.is_exact:
            return "copied, exact"
        real = f"{clock(clip.start_s)} to {clock(clip.end_s)}"
        wanted = f"{clock(index.time_s(span.first))} to {clock(index.time_s(span.end))}"
        return f"copied from {real}, wanted {wanted}"

    def _reframe(self, moment: Moment, path: Path) -> str:
        options = self.options
        assert options.reframe is not None
        evidence = followed_boxes(self.result, moment, self.limits)
        clip = reframe(
            self.index,
            moment.span.with_handles(self.index, options.handles_s),
            options.reframe,
            path,
            evidence=evidence,
            shots=self.result.shots,
            overwrite=options.overwrite,
            limits=self.limits,
        )
        write_json(_path_fields(clip, self.index), path.with_suffix(".path.json"))
        reasons = dict.fromkeys(one.reason for one in clip.paths if one.reason)
        if not evidence:
            reasons["no box of the subject: the crop is in the middle"] = None
        return "; ".join(reasons)

    def _thumbnail(self, moment: Moment, path: Path) -> str:
        middle = (moment.span.first + moment.span.end - 1) // 2
        picture = picture_at(self.index, middle, self.limits)
        with atomic_path(path) as part:
            picture.save(part, "JPEG", quality=92)
        return ""

    def _redact(self, path: Path, found: list[RedactedFile]) -> str:
        options = self.options
        assert options.redact is not None
        subjects, num_without = redacted_subjects(self.result.moments)
        written = redact(
            self.index,
            subjects,
            path,
            shots=self.result.shots,
            method=options.redact,
            margin=options.margin,
            sound=options.sound,
            overwrite=options.overwrite,
            limits=self.limits,
        )
        found.append(written)
        note = (
            f"{len(written.boxes):,} covered frames; still in the file: {'; '.join(written.left)}"
        )
        if num_without:
            note += f"; moments without a box, covered as a whole: {num_without}"
        return note

    def _prove(self, found: RedactedFile, path: Path) -> str:
        write_proof_sheet(found, self.index, path, overwrite=self.options.overwrite)
        return "a person must check the whole file before it is shared"


def _path_fields(clip: ReframedClip, index: VideoIndex) -> dict[str, object]:
    """Return the crop of each frame, for an editor: fractions of the upright source."""
    return {
        "size": list(clip.size),
        "shots": [
            {
                "start_s": round(float(index.time_s(one.span.first)), 6),
                "padded": one.reason or None,
                "frames": [
                    [number, *(round(side, 5) for side in box)]
                    for number, box in zip(
                        range(one.span.first, one.span.end), one.boxes, strict=False
                    )
                ],
            }
            for one in clip.paths
        ],
    }
