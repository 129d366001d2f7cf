"""Decoder of untrusted files: valid pictures and videos become RGB pixels, all others are an `InputError`."""

from __future__ import annotations

import math
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.media import videos
from pixel_reasoner.media.folders import sample_folder
from pixel_reasoner.media.images import image_size, open_image
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.schema.settings import MediaLimits

LIMITS = MediaLimits()
FORMATS = {
    "png": {},
    "jpg": {"quality": 95},
    "webp": {"lossless": True},
    "bmp": {},
    "tif": {},
    "gif": {},
}
STEP = 6
"""Frame i of a test video is grey i * STEP, so that a decoded frame identifies its number."""


def scene(width: int = 40, height: int = 30) -> Image.Image:
    """Return a smooth picture with different colors at all places."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 5, y * 7, x + y], axis=-1).astype(np.uint8))


def write_video(
    path: Path,
    num_frames: int,
    codec: str = "mpeg4",
    skip: int = 0,
    rotation: int = 0,
    coded: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Write a clip of 10 frames per second without its first `skip` packets."""
    with av.open(str(path), "w", options=options) as container:
        container.metadata["title"] = "A title"
        stream = container.add_stream(
            codec, rate=10, options={"g": "10", "bf": "0"} | (coded or {})
        )
        stream.width, stream.height, stream.bit_rate = 64, 48, 2_000_000
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        packets = []
        for number in range(num_frames):
            pixels = np.full((48, 64, 3), number * STEP % 256, np.uint8)
            pixels[:2, number % 64] = 255
            packets += stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        for packet in [*packets, *stream.encode()][skip:]:
            container.mux(packet)
    return path


def frame_number(image: Image.Image) -> int:
    return round(np.median(np.asarray(image)) / STEP)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_header(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head)


# --- valid pictures ---


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_its_pixels_as_rgb(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    scene().save(path, **FORMATS[suffix])
    image = open_image(path, LIMITS)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    difference = np.asarray(image).astype(int) - np.asarray(scene())
    assert abs(difference).mean() < 8


def test_the_format_is_detected_from_the_content_and_not_from_the_suffix(tmp_path):
    path = tmp_path / "really_a_jpeg.png"
    scene().save(path, "JPEG")
    assert open_image(path, LIMITS).size == (40, 30)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_also_to_the_size_in_the_header(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene().save(path, exif=exif, **FORMATS[suffix])
    image = open_image(path, LIMITS)
    assert image.size == image_size(path, LIMITS) == ((30, 40) if orientation >= 5 else (40, 30))
    corner = {
        1: (0, 0),
        2: (-1, 0),
        3: (-1, -1),
        4: (0, -1),
        5: (0, 0),
        6: (-1, 0),
        7: (-1, -1),
        8: (0, -1),
    }
    x, y = corner[orientation]  # place of the original top left corner
    found = image.getpixel((x % image.width, y % image.height))
    assert np.allclose(found, (0, 0, 0), atol=12)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"II*\0\xff\xff\xff\x7f", b"neither of the byte orders"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_broken_exif_does_not_change_the_picture(tmp_path, suffix, exif):
    scene().save(tmp_path / f"a.{suffix}", exif=b"Exif\0\0" + exif)
    assert open_image(tmp_path / f"a.{suffix}", LIMITS).size == (40, 30)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("LA", (0, 128), (127, 127, 127)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x8000, (128, 128, 128)),
        ("I;16", 0xFFFF, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb_over_white(tmp_path, mode, color, expected):
    Image.new(mode, (4, 3), color).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", LIMITS).getpixel((0, 0)) == expected


def test_transparent_palette_colors_become_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=0)
    image = open_image(tmp_path / "a.png", LIMITS)
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 255)]


def test_a_cmyk_jpeg_keeps_its_colors(tmp_path):
    Image.new("RGB", (8, 8), (200, 30, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.allclose(
        open_image(tmp_path / "a.jpg", LIMITS).getpixel((4, 4)), (200, 30, 30), atol=8
    )


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_greyscale_without_a_fixed_range_is_stretched(tmp_path, dtype):
    Image.fromarray(np.array([[-5, 0, 5]], dtype)).save(tmp_path / "a.tif")
    image = open_image(tmp_path / "a.tif", LIMITS)
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_the_first_of_several_pages_is_used(tmp_path, suffix):
    pages = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:])
    assert open_image(tmp_path / f"a.{suffix}", LIMITS).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(suffix, FORMATS[suffix]) for suffix in FORMATS]
    + [("tif", {"compression": name}) for name in ("tiff_lzw", "jpeg", "tiff_deflate")],
)
def test_the_pixel_limit_of_pillow_is_neither_used_nor_changed(
    tmp_path, monkeypatch, suffix, options
):
    path = tmp_path / f"a.{suffix}"
    scene().save(path, **options)
    expected = np.asarray(Image.open(path).convert("RGB"))
    compared = []

    class RecordingLimit(int):
        """Limit that records comparisons. There must be none."""

        def __mul__(self, other):
            compared.append(other)
            return int(self) * other

        __rmul__ = __mul__

    limit = RecordingLimit(100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert np.array_equal(np.asarray(open_image(path, LIMITS)), expected)
    assert image_size(path, LIMITS) == (40, 30)
    assert Image.MAX_IMAGE_PIXELS is limit
    assert not compared


# --- invalid pictures ---


def test_a_picture_over_the_limit_is_refused_from_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000) + png_chunk(b"IDAT", b""))
    with pytest.raises(PixelLimitError, match=r"bomb\.png: 60000 x 60000"):
        open_image(tmp_path / "bomb.png", LIMITS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_limit_is_exact(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    scene().save(path)
    assert open_image(path, MediaLimits(max_px=1200)).size == (40, 30)
    with pytest.raises(PixelLimitError):
        image_size(path, MediaLimits(max_px=1199))


def test_a_compressed_text_that_is_too_large_is_refused(tmp_path):
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 80_000_000))
    (tmp_path / "a.png").write_bytes(png_header(8, 8) + text)
    with pytest.raises(InputError, match=r"a\.png"):
        open_image(tmp_path / "a.png", LIMITS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_picture_is_refused(tmp_path, suffix):
    path = tmp_path / f"half.{suffix}"
    scene(200, 200).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="half") as caught:
        open_image(path, LIMITS)
    assert caught.value.expected.startswith("a whole picture")
    assert caught.value.fix


@pytest.mark.parametrize("read", [open_image, image_size, sample_video])
def test_a_file_of_another_type_is_an_error_with_the_reason(tmp_path, read):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, why in [
        ("missing.png", "no such file"),
        ("empty.png", "an empty file"),
        ("folder.png", "a folder"),
        ("pipe.png", "not a regular file"),
        ("text.png", "not a picture of these formats|not a video of these formats"),
        ("a" * 300, "File name too long"),
        ("a\0b", "no such file"),
    ]:
        with pytest.raises(InputError, match=why) as caught:
            read(tmp_path / name, LIMITS)
        assert str(tmp_path / name) in caught.value.got
        if why in ("no such file", "a folder", "not a regular file"):
            assert caught.value.fix == "check the path"


def test_other_formats_of_pillow_are_not_opened(tmp_path):
    scene().save(tmp_path / "a.ppm")
    with pytest.raises(InputError, match="not a picture of these formats"):
        open_image(tmp_path / "a.ppm", LIMITS)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of bad metadata
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_pictures_are_read_or_refused(tmp_path_factory, suffix):
    path = tmp_path_factory.mktemp("damaged") / f"a.{suffix}"
    scene().save(path, **FORMATS[suffix])
    whole = path.read_bytes()

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.integers(0, len(whole) - 1), st.binary(max_size=8), st.integers(0, 8))
    def damage(at: int, new: bytes, skipped: int) -> None:
        path.write_bytes(whole[:at] + new + whole[at + skipped :])
        with suppress(InputError):
            assert open_image(path, MediaLimits(max_px=1_000_000)).mode == "RGB"

    damage()


# --- videos ---


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mp4", "mpeg4"),
        ("a.webm", "libvpx-vp9"),
        ("a.mkv", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.gif", "gif"),
    ],
)
def test_sampled_frames_are_the_middles_of_equal_parts(tmp_path, name, codec):
    path = write_video(tmp_path / name, 40, codec)
    frames = sample_video(path, MediaLimits(num_frames=8))
    positions = [math.floor((part + 0.5) * 40 / 8) for part in range(8)]
    assert [frame.time_s for frame in frames] == pytest.approx([at / 10 for at in positions])
    assert {(frame.image.mode, frame.image.size) for frame in frames} == {("RGB", (64, 48))}
    if codec != "gif":  # its 256 colors are too coarse to distinguish frames
        assert [frame_number(frame.image) for frame in frames] == positions


@pytest.mark.parametrize("num_frames", [1, 5, 16])
def test_a_short_clip_gives_all_its_frames(tmp_path, num_frames):
    frames = sample_video(write_video(tmp_path / "a.mp4", num_frames), MediaLimits(num_frames=16))
    assert [frame_number(frame.image) for frame in frames] == list(range(num_frames))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")]
)
def test_frames_of_a_video_part_are_sampled_within_it(tmp_path, name, codec):
    path = write_video(tmp_path / name, 40, codec)  # ten frames a second
    frames = sample_video(path, MediaLimits(num_frames=5), start_s=0.95, end_s=2.95)
    assert [frame_number(frame.image) for frame in frames] == [12, 16, 20, 24, 28]
    assert [frame_number(f.image) for f in sample_video(path, LIMITS, start_s=3.75)] == [38, 39]


def test_a_video_part_without_frames_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10)
    with pytest.raises(InputError, match="no frame from 5 to 6 s"):
        sample_video(path, LIMITS, start_s=5.0, end_s=6.0)


def test_frames_are_counted_by_decoding_them(tmp_path):
    # Without its first key frame a clip shows nothing before the second one.
    frames = sample_video(write_video(tmp_path / "a.mkv", 40, "libx264", skip=3), LIMITS)
    positions = [10 + math.floor((part + 0.5) * 30 / 16) for part in range(16)]
    assert [frame_number(frame.image) for frame in frames] == positions


def test_a_clip_that_cannot_be_decoded_is_refused(tmp_path):
    path = write_video(tmp_path / "a.webm", 40, "libvpx-vp9", skip=3)
    with pytest.raises(InputError, match="0 frames can be read"):
        sample_video(path, LIMITS)


def test_a_title_in_an_old_encoding_is_accepted(tmp_path):
    path = write_video(tmp_path / "a.avi", 4)
    path.write_bytes(path.read_bytes().replace(b"A title", b"Un \xe9t\xe9!"))
    assert len(sample_video(path, LIMITS)) == 4


@pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "set_display_rotation"),
    reason="PyAV 18 can write a rotation",
)
def test_a_recorded_rotation_is_applied(tmp_path):
    path = write_video(tmp_path / "a.mp4", 2, rotation=90)
    image = sample_video(path, LIMITS)[0].image
    assert image.size == (48, 64)
    assert image.getpixel((0, 63))[0] > 128  # the white dot, top left before the turn


def test_transparent_parts_of_a_gif_are_white(tmp_path):
    frames = [Image.new("RGBA", (8, 6), (index * 9, 0, 0, 0)) for index in range(3)]
    for index, frame in enumerate(frames):
        frame.putpixel((index, 0), (255, 0, 0, 255))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], disposal=2)
    assert sample_video(tmp_path / "a.gif", LIMITS)[0].image.getpixel((7, 5)) == (255, 255, 255)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.mkv", "libx264", {}),
        ("a.avi", "mpeg4", {}),
        ("a.gif", "gif", {}),
    ],
)
def test_a_truncated_video_is_refused(tmp_path, name, codec, options, share):
    path = write_video(tmp_path / name, 40, codec, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"a\.\w+: ") as caught:
        sample_video(path, LIMITS)
    assert "give the whole file" in caught.value.fix


def test_the_error_of_a_truncated_video_states_the_number_of_decoded_frames(tmp_path):
    path = write_video(tmp_path / "a.mkv", 40, "libx264")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"truncated or damaged video: \d+ frames can be read"):
        sample_video(path, LIMITS)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_video_without_frames_is_refused(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match="video"):
        sample_video(tmp_path / name, LIMITS)


def test_a_file_with_only_sound_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.rate = 16_000
        container.mux([*stream.encode(silence), *stream.encode(None)])
    with pytest.raises(InputError, match="no video in it"):
        sample_video(path, LIMITS)


def test_a_playlist_cannot_open_other_files(tmp_path):
    video = write_video(tmp_path / "secret.mp4", 4)
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError):
        sample_video(path, LIMITS)


def test_the_pixel_limit_applies_to_frames(tmp_path):
    with pytest.raises(PixelLimitError, match="64 x 48"):
        sample_video(write_video(tmp_path / "a.mp4", 4), MediaLimits(max_px=3000))


# --- folders ---


def test_frames_of_a_folder_are_in_natural_order(tmp_path):
    for number in range(12):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_text("not a frame")
    frames = sample_folder(tmp_path, MediaLimits(num_frames=4))
    assert [frame.image.getpixel((0, 0))[0] for frame in frames] == [1, 4, 7, 10]
    assert {frame.time_s for frame in frames} == {None}


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="no picture files in it"):
        sample_folder(tmp_path, LIMITS)
    with pytest.raises(InputError, match="No such file"):
        sample_folder(tmp_path / "missing", LIMITS)


def test_the_error_of_a_broken_picture_in_a_folder_names_it(tmp_path):
    (tmp_path / "broken.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        sample_folder(tmp_path, LIMITS)


@pytest.mark.parametrize(
    ("name", "codec", "coded"),
    [
        ("a.mp4", "libx264", {"g": "50", "bf": "3"}),
        ("a.mkv", "libx264", {"g": "25"}),
        ("a.webm", "libvpx-vp9", {"g": "40"}),
        ("a.avi", "mpeg4", {"g": "30"}),
    ],
)
def test_frames_after_a_seek_equal_frames_of_a_full_decode(
    tmp_path, name, codec, coded, monkeypatch
):
    """A long video is not decoded completely. Frames are equal, also for a part and for frames that refer to later ones."""
    path = write_video(tmp_path / name, 200, codec, coded=coded)
    limits = MediaLimits(num_frames=7)
    whole = [sample_video(path, limits), sample_video(path, limits, 3.05, 17.2)]
    monkeypatch.setattr(videos, "SEEK_MIN_FRAMES", 150)
    monkeypatch.setattr(videos, "_decode", None)  # no fallback is allowed
    sought = [sample_video(path, limits), sample_video(path, limits, 3.05, 17.2)]
    for ours, theirs in zip(sought, whole, strict=True):
        assert [one.time_s for one in ours] == [one.time_s for one in theirs]
        assert all(
            np.array_equal(np.asarray(a.image), np.asarray(b.image))
            for a, b in zip(ours, theirs, strict=True)
        )


def test_a_long_video_without_seeking_is_decoded_completely(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 40)
    expected = [frame.time_s for frame in sample_video(path, LIMITS)]
    monkeypatch.setattr(videos, "SEEK_MIN_FRAMES", 30)
    monkeypatch.setattr(videos, "TIME_TOLERANCE_S", -1.0)  # no frame is where it should be
    assert [frame.time_s for frame in sample_video(path, LIMITS)] == expected
