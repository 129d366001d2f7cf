"""Clips whose frames show their number, with a beep that starts with a frame, at any rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NTSC = Fraction(1000, 1001)
RATES = {
    "23.976": 24 * NTSC,
    "25": Fraction(25),
    "29.97": 30 * NTSC,
    "60": Fraction(60),
    "variable": None,
}
SAMPLE_RATE = 48_000
_BITS, _CELL = 12, 16
SIZE = (_BITS * _CELL, 128)


@dataclass(frozen=True)
class WrittenClip:
    path: Path
    times_s: tuple[Fraction, ...]
    """start of each frame, and the end of the last one"""


def frame_times(rate: Fraction | None, num_frames: int) -> tuple[Fraction, ...]:
    """Starts of frames, and the end of the last. A variable rate: 20 to 60 ms in a fixed pattern."""
    if rate is not None:
        return tuple(n / rate for n in range(num_frames + 1))
    steps = [Fraction((20, 33, 41, 60, 25)[n * n % 5], 1000) for n in range(num_frames)]
    times = [Fraction(0)]
    for step in steps:
        times.append(times[-1] + step)
    return tuple(times)


def numbered_picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture with its number as black and white cells in the top row."""
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    for bit in range(_BITS):
        picture[:_CELL, bit * _CELL : (bit + 1) * _CELL] = 255 if number >> bit & 1 else 0
    return picture


def number_of(picture: np.ndarray) -> int:
    """Read the number of a picture of (height, width, 3)."""
    cells = [
        picture[4 : _CELL - 4, bit * _CELL + 4 : (bit + 1) * _CELL - 4].mean() > 127
        for bit in range(_BITS)
    ]
    return sum(1 << bit for bit, is_set in enumerate(cells) if is_set)


def write_test_clip(
    path: Path,
    rate: str = "25",
    num_frames: int = 100,
    *,
    beep_frames: Sequence[int] = (),
    pictures=numbered_picture,
    sound: bool = True,
    start_s: Fraction = Fraction(0),
    timecode: str | None = None,
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
    metadata: dict[str, str] | None = None,
    gop: int = 24,
    size: tuple[int, int] = SIZE,
) -> WrittenClip:
    per_s = RATES[rate] if rate in RATES else Fraction(rate)
    times_s = frame_times(per_s, num_frames)
    time_base = Fraction(1, 1000) if per_s is None else 1 / per_s
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        options = {"g": str(gop), "crf": "12", "preset": "ultrafast", "bf": "2"}
        stream = container.add_stream("libx264", rate=per_s or 30, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.sample_aspect_ratio = aspect
        if timecode is not None:
            stream.metadata["timecode"] = timecode
        if rotation:
            stream.set_display_rotation(rotation)
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound else None
        offset = round(start_s / time_base)
        durations = {}
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(pictures(number), format="rgb24")
            frame.pts, frame.time_base = round(times_s[number] / time_base) + offset, time_base
            step = times_s[number + 1] - times_s[number]
            durations[frame.pts] = max(1, round(step / time_base))
            for packet in stream.encode(frame):
                packet.duration = durations[packet.pts]
                container.mux(packet)
        for packet in stream.encode(None):
            packet.duration = durations[packet.pts]
            container.mux(packet)
        if audio is not None:
            _write_beeps(container, audio, times_s, beep_frames, start_s)
    return WrittenClip(path, times_s)


def _write_beeps(container, stream, times_s, beep_frames, start_s) -> None:
    samples = np.zeros(round(times_s[-1] * SAMPLE_RATE), np.float32)
    for number in beep_frames:
        first = round(times_s[number] * SAMPLE_RATE)
        beep = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE // 20) / SAMPLE_RATE)
        samples[first : first + len(beep)] = beep[: max(0, len(samples) - first)]
    for first in range(0, len(samples), 1024):
        part = np.ascontiguousarray(samples[None, first : first + 1024])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = first + round(start_s * SAMPLE_RATE)
        frame.time_base = Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def shown_numbers(path: Path) -> list[int]:
    """The numbers of all frames of a clip, upright or not."""
    with av.open(str(path)) as container:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def video_times(path: Path) -> list[Fraction]:
    """Start times of the frames, from the start of the video stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = stream.start_time or 0
        return [(f.pts - start) * Fraction(stream.time_base) for f in container.decode(stream)]


def beep_times(path: Path) -> list[float]:
    """Times at which sound begins after silence, on the clock of the video."""
    samples, rate = sound_samples(path)
    loud = np.abs(samples) > 0.1
    quiet_before = np.convolve(loud, np.ones(rate // 100), "full")[: len(loud)]
    starts = np.flatnonzero(loud & (np.concatenate([[0], quiet_before[:-1]]) == 0))
    return [float(one) / rate for one in starts]


def sound_samples(path: Path) -> tuple[np.ndarray, int]:
    """Mono samples on the clock of the video: sample 0 is at the start of the video stream."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        origin = (video.start_time or 0) * Fraction(video.time_base)
        stream = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
        found = np.zeros(0, np.float32)
        for frame in container.decode(stream):
            values = frame.to_ndarray().mean(axis=0)
            first = round((frame.pts * Fraction(frame.time_base) - origin) * rate)
            skipped = max(0, -first)
            first, values = max(0, first), values[skipped:]
            grown = np.zeros(max(len(found), first + len(values)), np.float32)
            grown[: len(found)] = found
            grown[first : first + len(values)] = values
            found = grown
    return found, rate
