"""Encoder of clips: H.264 video and AAC sound, with start time, rotation and time code."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pixel_reasoner.media.video_file import reformat_options
from pixel_reasoner.world.moments.draw import Painter
from pixel_reasoner.world.moments.frame_code import FrameCode, write_frame_code
from pixel_reasoner.world.moments.params import SIZE, TIME_BASES
from pixel_reasoner.world.moments.script import EVENT_KINDS, Clip

SAMPLE_RATE = 48_000
BEEP_S = 0.12
BEEP_HZ = dict(zip(EVENT_KINDS, (660, 880, 1100, 1320), strict=True))
_HUM_HZ, _HUM_LEVEL, _BEEP_LEVEL = 110, 0.01, 0.5
_BLOCK = 1024
_KEYFRAME_S = 2


def encode_clip(clip: Clip, path: Path, on_frame: Callable[[int], object] = lambda n: None) -> None:
    """Write a clip. `path` is of the file, and its suffix decides nothing.

    Raises:
        OSError: the path cannot be written.
    """
    params = clip.params
    options = {"movflags": "+faststart"}
    with av.open(str(path), "w", format=params.container, options=options) as container:
        if params.timecode is not None:
            container.metadata["timecode"] = params.timecode
        video, audio = _video_stream(container, clip), _audio_stream(container)
        pictures, sound = _Pictures(clip), _Sound(clip, container, audio)
        for number in range(clip.num_frames):
            container.mux(video.encode(pictures.frame(number)))
            sound.write_until(clip.times[number + 1])
            on_frame(number + 1)
        container.mux(video.encode())
        sound.close()


def _video_stream(container: OutputContainer, clip: Clip) -> VideoStream:
    base, params = TIME_BASES[clip.params.rate], clip.params
    spacing = (clip.times[-1] - clip.times[0]) / clip.num_frames
    # One thread: the encoder's output depends on the number of threads.
    options = {"preset": "ultrafast", "crf": "23", "threads": "1", "x264-params": "scenecut=0"}
    stream = container.add_stream(
        "libx264", rate=(1 / spacing).limit_denominator(1001), options=options
    )
    quarter = params.rotation in (90, 270)
    stream.width, stream.height = SIZE[::-1] if quarter else SIZE
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = base
    stream.codec_context.gop_size = round(_KEYFRAME_S / spacing)
    if params.rotation:
        # The display matrix counts anticlockwise.
        stream.set_display_rotation(-params.rotation)
    return stream


class _Pictures:
    """Frames of a clip in the pixel format of the encoder. Only what changed is painted and converted again."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.painter = clip, Painter(clip)
        self._planes: NDArray[np.uint8] | None = None

    def frame(self, number: int) -> av.VideoFrame:
        """Return a frame with its time. Frames are read in order."""
        rotation, base = self.clip.params.rotation, TIME_BASES[self.clip.params.rate]
        if self._planes is None or rotation or not self.painter.is_still(number):
            picture = np.rot90(self.painter.frame(number), rotation // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", interpolation=Interpolation.AREA, **reformat_options(1)
            )
            self._planes = None if rotation else np.asarray(frame.to_ndarray(), np.uint8)
        else:
            # Grey cells change the luma alone.
            write_frame_code(self._planes[: SIZE[1]], FrameCode(self.painter.code, number))
            frame = av.VideoFrame.from_ndarray(self._planes, format="yuv420p")
        frame.time_base = base
        frame.pts = round(self.clip.times[number] / base)
        frame.duration = round((self.clip.times[number + 1] - self.clip.times[number]) / base)
        return frame


def _audio_stream(container: OutputContainer) -> AudioStream:
    stream = container.add_stream(
        "aac", rate=SAMPLE_RATE, layout="mono", options={"aac_coder": "fast"}
    )
    stream.codec_context.bit_rate = 64_000
    return stream


class _Sound:
    """Sound track: a quiet hum, and a beep at the start of each event."""

    def __init__(self, clip: Clip, container: OutputContainer, stream: AudioStream) -> None:
        self.container, self.stream = container, stream
        self.start = clip.times[0]
        length = float(clip.times[-1] - self.start)
        self.samples = make_sound(clip, round(length * SAMPLE_RATE))
        self._at = 0

    def write_until(self, time: Fraction) -> None:
        """Encode samples up to a time in the file."""
        end = round((time - self.start) * SAMPLE_RATE)
        while self._at + _BLOCK <= min(end, len(self.samples)):
            self._write(self._at + _BLOCK)

    def close(self) -> None:
        """Encode the remaining samples."""
        if self._at < len(self.samples):
            self._write(len(self.samples))
        self.container.mux(self.stream.encode())

    def _write(self, end: int) -> None:
        block = self.samples[None, self._at : end]
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        frame.pts = round(self.start * SAMPLE_RATE) + self._at
        self.container.mux(self.stream.encode(frame))
        self._at = end


def make_sound(clip: Clip, num_samples: int) -> NDArray[np.float32]:
    """Return the samples of the sound track, -1 to 1. Sample 0 is at the time of the first frame."""
    time = np.arange(num_samples, dtype=np.float32) / SAMPLE_RATE
    samples = np.float32(_HUM_LEVEL) * np.sin(np.float32(2 * np.pi * _HUM_HZ) * (time % 1))
    length = round(BEEP_S * SAMPLE_RATE)
    wave = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    for event in clip.events:
        first = round((clip.times[event.first] - clip.times[0]) * SAMPLE_RATE)
        beep = np.sin(np.float32(2 * np.pi * BEEP_HZ[event.kind]) * wave) * np.float32(_BEEP_LEVEL)
        end = min(num_samples, first + length)
        samples[first:end] += beep[: end - first]
    return samples.astype(np.float32)
