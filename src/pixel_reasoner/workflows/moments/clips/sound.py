"""Sound of a clip, cut by samples on the clock of the video, with a short fade at both ends."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.video_file import open_video, video_deadline
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.video_index import EXPECTED, FIX, VideoIndex

Samples = NDArray[np.float32]
"""(channels, samples), from -1 to 1"""
FADE_S = Fraction(5, 1000)
"""fade at each end: a sound that begins inside a wave clicks"""
_PREROLL_S = Fraction(1, 2)
"""sound decoded before the start, because some codecs need earlier packets"""


class _Block(NamedTuple):
    """Decoded samples, and the number of the first one on the clock of the video."""

    first: int
    samples: Samples


def sound_of(
    index: VideoIndex,
    track: int,
    start_s: Fraction,
    end_s: Fraction,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
) -> Iterator[Samples]:
    """Yield the sound of an audio track between two times of the video, in blocks.

    The blocks contain `round(end * rate) - round(start * rate)` samples. Where the track is silent, starts later or ends
    earlier, they are zero.

    Args:
        index: the video.
        track: number among the audio tracks, from 0.
        start_s: first sample.
        end_s: end.
        limits: of the file.

    Raises:
        InputError: the sound cannot be decoded.
    """
    rate = index.audio[track].rate
    first, end = round(start_s * rate), round(end_s * rate)
    position = first
    for block in _blocks(index, track, start_s, limits):
        skipped = position - block.first
        samples = block.samples[:, max(0, skipped) : max(0, end - block.first)]
        if samples.shape[1] == 0 and skipped >= 0:
            continue
        if skipped < 0:  # a gap in the track
            gap = min(-skipped, end - position)
            yield _faded(np.zeros((samples.shape[0], gap), np.float32), position, first, end, rate)
            position += gap
        if samples.shape[1]:
            yield _faded(samples, position, first, end, rate)
            position += samples.shape[1]
        if position >= end:
            return
    if position < end:
        yield np.zeros((index.audio[track].num_channels, end - position), np.float32)


def _blocks(
    index: VideoIndex, track: int, start_s: Fraction, limits: MediaLimits
) -> Iterator[_Block]:
    origin_s = index.start_pts * index.time_base
    with (
        as_input_errors(index.path, EXPECTED, FIX),
        open_video(index.path, limits, video_deadline(index.path, limits)) as video,
    ):
        stream = video.container.streams.audio[track]
        assert stream.time_base is not None
        from_s = start_s + origin_s - _PREROLL_S
        if from_s > 0:
            video.container.seek(int(from_s / stream.time_base), stream=stream)
        resampler = AudioResampler(format="fltp")
        position: int | None = None
        for frame in video.container.decode(stream):
            if frame.pts is not None and frame.time_base is not None:
                time_s = frame.pts * Fraction(frame.time_base) - origin_s
                stated = round(time_s * frame.sample_rate)
                # Containers in milliseconds round the time of each packet; samples follow each other.
                if position is None or abs(stated - position) > frame.sample_rate // 200:
                    position = stated
            for part in resampler.resample(frame):
                samples: Samples = part.to_ndarray().astype(np.float32, copy=False)
                yield _Block(position or 0, samples)
                position = (position or 0) + samples.shape[1]


def _faded(samples: Samples, position: int, first: int, end: int, rate: int) -> Samples:
    """Return samples with the fade of the part that they are."""
    length = max(1, min(round(FADE_S * rate), (end - first) // 2))
    numbers = np.arange(position, position + samples.shape[1])
    gain = np.minimum(numbers - first, end - 1 - numbers) / length
    faded: Samples = (samples * np.clip(gain, 0.0, 1.0)).astype(np.float32)
    return faded


class SoundEncoder:
    """Encoder of one audio track of an output container."""

    def __init__(self, container: Any, rate: int, num_channels: int, codec: str = "aac") -> None:
        layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(num_channels, "stereo")
        self.stream = container.add_stream(codec, rate=rate, layout=layout)
        self.stream.codec_context.bit_rate = 96_000 * max(1, min(num_channels, 2))
        self._num_channels = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}[layout]
        self._layout = layout
        self._container = container
        self._rate = rate
        self._waiting = np.zeros((self._num_channels, 0), np.float32)
        self.position = 0
        """number of encoded samples"""

    def write(self, samples: Samples) -> None:
        """Encode samples; a rest that does not fill a frame of the codec waits."""
        shaped = _with_channels(samples, self._num_channels)
        self._waiting = np.concatenate([self._waiting, shaped], axis=1)
        size = self.stream.codec_context.frame_size or 1024
        while self._waiting.shape[1] >= size:
            self._encode(self._waiting[:, :size])
            self._waiting = self._waiting[:, size:]

    def close(self) -> None:
        """Encode the rest."""
        if self._waiting.shape[1]:
            self._encode(self._waiting)
        self._container.mux(self.stream.encode(None))

    def _encode(self, samples: Samples) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=self._layout
        )
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self.position, Fraction(1, self._rate)
        self.position += samples.shape[1]
        self._container.mux(self.stream.encode(frame))


def _with_channels(samples: Samples, num_channels: int) -> Samples:
    if samples.shape[0] == num_channels:
        return samples
    if samples.shape[0] == 1:
        return np.repeat(samples, num_channels, axis=0)
    return np.repeat(samples.mean(axis=0, keepdims=True, dtype=np.float32), num_channels, axis=0)
