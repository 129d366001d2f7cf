"""Hostile videos, folders and paths. Each function creates one in a folder and returns its path."""

from __future__ import annotations

import os
import socket
import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random

import av
import numpy as np
from PIL import Image

from attacks.media_bytes import FILES, LARGE, png

SUFFIXES = {"mp4": "mpeg4", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "gif": "gif"}


@cache
def clip(name: str, codec: str = "", size=(64, 48), frames=12, streams=1) -> bytes:
    """Return the bytes of a small valid clip."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"attack-{os.getpid()}.{name}"
    codec = codec or SUFFIXES[name]
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream(codec, rate=10) for _ in range(streams)]
        for track in tracks:
            track.width, track.height = size
            track.pix_fmt = {"gif": "rgb8", "png": "rgb24", "mjpeg": "yuvj420p"}.get(
                codec, "yuv420p"
            )
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), number * 9 % 256, np.uint8)
            for track in tracks:
                container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for track in tracks:
            container.mux(track.encode())
    content = path.read_bytes()
    path.unlink()
    return content


def write_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def patch_boxes(content: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """Replace the bytes at offset `at` after the name of each box."""
    start = content.find(box)
    while start >= 0:
        place = start + len(box) + at
        content = content[:place] + value + content[place + len(value) :]
        start = content.find(box, start + len(box))
    return content


# --- videos ---


def video_odd_times(folder: Path, rng: Random) -> Path:
    """Write impossible durations of packets and of the file."""
    box, at = rng.choice([(b"stts", 12), (b"mvhd", 16), (b"mdhd", 16), (b"elst", 8), (b"elst", 12)])
    value = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"])
    return write_file(folder, "a.mp4", patch_boxes(clip("mp4"), box, at, value))


def video_zero_rate(folder: Path, rng: Random) -> Path:
    box = rng.choice([b"mvhd", b"mdhd"])
    return write_file(folder, "a.mp4", patch_boxes(clip("mp4"), box, 12, b"\0\0\0\0"))


def video_avi_zero_rate(folder: Path, rng: Random) -> Path:
    content = patch_boxes(clip("avi"), b"avih", 4, b"\0\0\0\0")
    return write_file(
        folder, "a.avi", patch_boxes(content, b"vids", 16, rng.choice([bytes(8), b"\xff" * 8]))
    )


def video_many_streams(folder: Path, rng: Random) -> Path:
    return write_file(folder, "a.mkv", clip("mkv", "mpeg4", (64, 48), 2, rng.choice([90, 300])))


def video_many_frames(folder: Path, rng: Random) -> Path:
    """List one frame millions of times in the sample table of an mp4."""
    return write_file(folder, "a.mp4", patch_boxes(clip("mp4"), b"stts", 8, b"\0\xff\xff\xff"))


def video_large_frames(folder: Path, rng: Random) -> Path:
    codec, name = rng.choice([("png", "avi"), ("mjpeg", "avi")])
    content = bytearray(clip(name, codec, (64, 48)))
    old, new = struct.pack(">II", 64, 48), struct.pack(">II", *LARGE)
    if codec == "mjpeg":
        old, new = struct.pack(">HH", 48, 64), struct.pack(">HH", *LARGE)
    return write_file(folder, f"a.{name}", bytes(content).replace(old, new))


def video_large_pngs(folder: Path, rng: Random) -> Path:
    """Store frames of 200 million pixels in a few hundred kilobytes."""
    content = png(LARGE, 8, rng.choice([0, 2]))
    with av.open(str(folder / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height = rng.choice([LARGE, (64, 48)])
        stream.pix_fmt = "rgb24"
        for number in range(rng.choice([1, 4, 40])):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.pts, packet.dts = (
                *(stream, Fraction(1, 10)),
                *(number, number),
            )
            container.mux(packet)
    return folder / "a.mov"


def video_noise(folder: Path, rng: Random) -> Path:
    name = rng.choice(list(SUFFIXES))
    content = bytearray(clip(name))
    for _ in range(rng.choice([1, 10, 200])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return write_file(folder, f"a.{name}", bytes(content))


def video_cut(folder: Path, rng: Random) -> Path:
    name = rng.choice(list(SUFFIXES))
    content = clip(name)
    return write_file(folder, f"a.{name}", content[: rng.randrange(len(content))])


def video_endless(folder: Path, rng: Random) -> Path:
    """Write a container element without an end, followed by zeros."""
    head = clip("mkv")[: rng.choice([60, 400])]
    filler = rng.choice(
        [bytes(4), b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff", b"\xec\x80"]
    )
    return write_file(folder, "a.mkv", head + filler * 500_000)


def video_nested_boxes(folder: Path, rng: Random) -> Path:
    depth = rng.choice([100, 50_000])
    name = rng.choice([b"moov", b"trak", b"meta", b"udta"])
    boxes = b"".join(struct.pack(">I", 8 * (depth - i)) + name for i in range(depth))
    return write_file(folder, "a.mp4", clip("mp4")[:32] + boxes)


def video_box_without_size(folder: Path, rng: Random) -> Path:
    box = rng.choice([b"stsz", b"stco", b"stts", b"stsc", b"ctts", b"stsd"])
    return write_file(folder, "a.mp4", patch_boxes(clip("mp4"), box, 4, b"\x7f\xff\xff\xff"))


def video_sparse(folder: Path, rng: Random) -> Path:
    name = rng.choice(["gif", "mp4", "avi", "mkv"])
    path = write_file(folder, f"a.{name}", clip(name)[:-1] if name == "gif" else clip(name))
    os.truncate(path, rng.choice([2**27, 2**31 + 1, 2**35, 2**41]))
    return path


def video_avif(folder: Path, rng: Random) -> Path:
    size = rng.choice([(64, 48), (4096, 4096)])
    path = write_file(folder, "a.avif", clip("avif", "libsvtav1", size, 1))
    if rng.random() < 0.5:
        os.truncate(path, 2**31)
    return path


def video_sound(folder: Path, rng: Random) -> Path:
    if rng.random() < 0.5:
        with wave.open(str(folder / "a.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(16_000))
        return folder / "a.wav"
    with av.open(str(folder / "a.mkv"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        samples.rate = 8000
        container.mux([*sound.encode(samples), *sound.encode()])
    return folder / "a.mkv"


def video_playlist(folder: Path, rng: Random) -> Path:
    text = rng.choice(
        [
            "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
            "ffconcat version 1.0\nfile /etc/passwd\n",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        ]
    )
    return write_file(folder, rng.choice(["a.m3u8", "a.mp4", "a.gif"]), text.encode())


# --- paths and folders ---


def path_pipe(folder: Path, rng: Random) -> Path:
    os.mkfifo(folder / "a.png")
    return folder / "a.png"


def path_socket(folder: Path, rng: Random) -> Path:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(folder / "a.png"))
    return folder / "a.png"


def path_device(folder: Path, rng: Random) -> Path:
    device = rng.choice(["/dev/zero", "/dev/null", "/dev/urandom", "/proc/self/mem", "/dev/stdin"])
    if rng.random() < 0.5:
        return Path(device)
    (folder / "a.png").symlink_to(device)
    return folder / "a.png"


def path_link_loop(folder: Path, rng: Random) -> Path:
    (folder / "a.png").symlink_to("b.png")
    (folder / "b.png").symlink_to(rng.choice(["a.png", "b.png", "missing.png", "."]))
    return folder / "a.png"


def path_odd_name(folder: Path, rng: Random) -> Path:
    names = [
        b"\xff\xfe.png",
        b"a\nb.png",
        b"-rf.png",
        b"http:a.png",
        b"img%03d.png",
        b"\x1b[2J.png",
    ]
    names += ["‮gnp.exe.png".encode(), b"a" * 251 + b".png", b"concat:a|b.mp4", b"pipe:0.mp4", b" "]
    path = folder / os.fsdecode(rng.choice(names))
    is_video = path.suffix == ".mp4"
    path.write_bytes(clip("mp4") if is_video else png((8, 8)))
    return path


def path_impossible(folder: Path, rng: Random) -> Path:
    name = rng.choice(["a\0b", "a" * 300, "a/" * 3000, "missing/a.png", "..", "\ud800.png"])
    return folder / name


def path_empty(folder: Path, rng: Random) -> Path:
    path = write_file(folder, "a.png", b"")
    if rng.random() < 0.5:
        os.truncate(path, 2**40)
    return path


def folder_of_large(folder: Path, rng: Random) -> Path:
    content = png(LARGE, 8, rng.choice([0, 2]))
    for number in range(20):
        write_file(folder, f"{number}.png", content)
    return folder


def folder_of_many(folder: Path, rng: Random) -> Path:
    for number in range(rng.choice([10, 20_000])):
        (folder / f"{rng.choice(['', '٣', '²'])}{number}.png").symlink_to("0.png")
    return folder


def folder_of_odd(folder: Path, rng: Random) -> Path:
    for number in range(5):
        name, make = rng.choice(list(FILES.items()))
        if "large" not in name:
            write_file(folder, f"{number}.png", make(rng))
    (folder / "6.png").mkdir()
    (folder / "7.png").symlink_to(".")
    return folder


# --- valid files: they must open ---


def valid_picture(folder: Path, rng: Random) -> Path:
    name = rng.choice(["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif"])
    Image.effect_noise((200, 150), 50).convert("RGB").save(folder / name)
    return folder / name


def valid_video(folder: Path, rng: Random) -> Path:
    name = rng.choice(list(SUFFIXES))
    return write_file(folder, f"a.{name}", clip(name))


def _file_kind(make: Callable[[Random], bytes]) -> Callable[[Path, Random], Path]:
    return lambda folder, rng: write_file(folder, "a.bin", make(rng))


def damaged(folder: Path, rng: Random) -> Path:
    """Write a valid picture with some changed bytes."""
    path = valid_picture(folder, rng)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 10, 100])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return write_file(
        folder, path.name, bytes(content[: rng.choice([len(content), len(content) // 2])])
    )


KINDS = {name: _file_kind(make) for name, make in FILES.items()} | {
    name: value
    for name, value in list(globals().items())
    if name.startswith(("video_", "path_", "folder_", "valid_", "damaged"))
}
"""kind -> function that creates one medium in an empty folder"""
