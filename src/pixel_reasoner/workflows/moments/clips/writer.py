"""Writer of an encoded video file with sound, which appears only when it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame

from pixel_reasoner.files import atomic_path, check_suffix
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.workflows.moments.clips.sound import SoundEncoder
from pixel_reasoner.workflows.moments.new_files import check_new
from pixel_reasoner.workflows.moments.video_index import AudioTrack, VideoIndex

SUFFIXES = (".mp4", ".mov", ".mkv")


@dataclass(frozen=True)
class VideoFormat:
    """Properties of an output.

    Attributes:
        size: (width, height) in pixels, even.
        time_base: unit of timestamps: a frame at a constant rate, otherwise that of the source.
        rate: nominal frame rate.
        sample_aspect_ratio: width of a pixel divided by its height.
        pixel_format: of FFmpeg.
        colour: `color_primaries`, `color_trc`, `colorspace` and `color_range`, in FFmpeg's numbers.
        timecode: label of the first frame; None for none.
        crf: quality of x264; lower is better.
    """

    size: Size
    time_base: Fraction
    rate: Fraction
    sample_aspect_ratio: Fraction = Fraction(1)
    pixel_format: str = "yuv420p"
    colour: tuple[int, int, int, int] | None = None
    timecode: str | None = None
    crf: int = 16


def colour_of(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Return the colour tags of a frame, in FFmpeg's numbers."""
    return (
        int(frame.color_primaries),
        int(frame.color_trc),
        int(frame.colorspace),
        int(frame.color_range),
    )


def time_base_of(index: VideoIndex) -> Fraction:
    """Return the unit of timestamps of an encoded part: one frame at a constant rate."""
    return index.time_base if index.is_variable else index.rate.frame_s


class VideoWriter:
    """Open output container: frames and sound are encoded as they come."""

    def __init__(self, container: Any, form: VideoFormat, audio: Sequence[AudioTrack] = ()) -> None:
        self._container = container
        self.form = form
        stream = container.add_stream(
            "libx264", rate=form.rate, options={"crf": str(form.crf), "preset": "veryfast"}
        )
        stream.width, stream.height = form.size
        stream.pix_fmt = form.pixel_format
        context = stream.codec_context
        context.time_base = form.time_base
        stream.time_base = form.time_base
        context.sample_aspect_ratio = form.sample_aspect_ratio
        if form.colour is not None:
            context.color_primaries, context.color_trc, context.colorspace = form.colour[:3]
            context.color_range = form.colour[3]
        if form.timecode is not None:
            stream.metadata["timecode"] = form.timecode
        self._stream = stream
        self._durations: dict[int, int] = {}
        self.num_frames = 0
        self.sounds = [SoundEncoder(container, one.rate, one.num_channels) for one in audio]

    def write(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """Encode a frame. Its timestamp and duration are in units of `form.time_base`."""
        frame.pts, frame.time_base = pts, self.form.time_base
        frame.pict_type = 0  # the encoder chooses key frames
        self._durations[pts] = duration
        self.num_frames += 1
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Encode what waits."""
        self._mux(self._stream.encode(None))
        for sound in self.sounds:
            sound.close()

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            duration = self._durations.pop(packet.pts, None)
            if duration is not None:
                packet.duration = duration
            self._container.mux(packet)


@contextmanager
def open_writer(
    path: Path, form: VideoFormat, audio: Sequence[AudioTrack] = (), *, overwrite: bool = False
) -> Iterator[VideoWriter]:
    """Yield the writer of a file. It gets its name when it is complete.

    Raises:
        OutputError: the file cannot be written, such as on a full disk.
        UsageError: the file exists, or an unknown suffix.
    """
    check_output(path, overwrite=overwrite)
    options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
    with atomic_path(path, av.error.FFmpegError) as part:
        with av.open(str(part), "w", container_options=options) as container:
            writer = VideoWriter(container, form, audio)
            yield writer
            writer.close()
        check_complete(part, writer.num_frames)


def check_complete(part: Path, num_frames: int | None = None) -> None:
    """Raise an error for a file without all its frames: FFmpeg may report a full disk too late.

    Args:
        part: the closed file.
        num_frames: written frames; None for any number above 0.

    Raises:
        OSError: an incomplete file.
    """
    found = 0
    if part.is_file() and part.stat().st_size:
        with av.open(str(part)) as container:
            found = sum(bool(packet.size) for packet in container.demux(video=0))
    if found != (num_frames or max(1, found)):
        raise OSError(f"the disk took {found} of {num_frames} frames")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise an error if a file exists, or has a suffix of no known container.

    Raises:
        UsageError: see above.
    """
    check_suffix(path, SUFFIXES, "a video")
    check_new(path, overwrite=overwrite)
