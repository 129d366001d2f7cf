"""Every limit on media is enforced, is named in its error, and changes nothing below its value."""

from __future__ import annotations

import json
import os
import struct
from random import Random

import pytest
from attacks import media as attack
from attacks.media_bytes import SLOW, jpeg_many_scans, png
from attacks.media_paths import KINDS
from PIL import Image

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.media import guarded_file, limits as media_limits, video_file
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.folders import sample_folder
from pixel_reasoner.media.images import open_image
from pixel_reasoner.schema.settings import MediaLimits, RolloutConfig, RunSettings
from test_decoder import scene, write_video
from test_media_context import build_question

QUICK_EXCEPTIONS = SLOW | {
    *("folder_of_large", "folder_of_many", "video_large_pngs", "video_avif", "video_sparse"),
    *("video_endless", "video_many_streams"),
}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A picture, a clip of 12 frames in 1.2 s, and a folder of 3 frames."""
    folder = tmp_path_factory.mktemp("limits")
    scene().save(folder / "a.png")
    write_video(folder / "clip.mp4", 12)
    (folder / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 6)).save(folder / "frames" / f"{number}.png")
    return {
        "image": folder / "a.png",
        "video": folder / "clip.mp4",
        "frames": folder / "frames",
    }


def open_with(media, kind: str, **limits) -> MediaContext:
    return MediaContext(build_question((kind, media[kind])), UNSCALED, MediaLimits(**limits))


@pytest.mark.parametrize(
    ("kind", "limits", "error"),
    [
        ("image", {"max_px": 1199}, PixelLimitError),
        ("video", {"max_px": 64 * 48 - 1}, PixelLimitError),
        ("frames", {"max_px": 47}, PixelLimitError),
        ("image", {"max_bytes": 60}, InputError),
        ("video", {"max_bytes": 1000}, InputError),
        ("frames", {"max_bytes": 20}, InputError),
        ("video", {"max_duration_s": 1.0}, InputError),
        ("video", {"max_video_frames": 11}, InputError),
        ("image", {"max_picture_bytes": 60}, InputError),
        ("image", {"max_header_bytes": 40}, InputError),
        ("image", {"max_decode_bytes": 4 * 1200 - 1}, PixelLimitError),
        ("video", {"max_decode_bytes": 4 * 12 * 64 * 48}, PixelLimitError),
        ("frames", {"max_decode_bytes": 3 * 48 * 4 - 1}, PixelLimitError),
        ("image", {"max_decode_s": 1e-9}, InputError),
        ("video", {"max_decode_s": 1e-9}, InputError),
    ],
)
def test_the_error_of_a_limit_names_the_file_and_the_option(
    media, kind, limits, error, monkeypatch
):
    ((name, _),) = limits.items()
    monkeypatch.setattr(media_limits, "PICTURE_BYTES_PER_S", 1e12)
    monkeypatch.setattr(guarded_file, "PICTURE_BYTES_PER_S", 1e12)
    monkeypatch.setattr(video_file, "VIDEO_BYTES_PER_S", 1e12)
    with pytest.raises(error) as caught:
        open_with(media, kind, **limits).view(1)
    assert str(media[kind]) in caught.value.got
    assert f"({name})" in caught.value.fix


@pytest.mark.parametrize(
    ("kind", "name", "limit"),
    [
        ("image", "max_px", 1200),
        ("video", "max_px", 64 * 48),
        ("video", "max_duration_s", 1.3),
        ("video", "max_video_frames", 12),
    ],
)
def test_a_limit_allows_exactly_its_value(media, kind, name, limit):
    assert len(open_with(media, kind, **{name: limit}))


def test_a_file_of_exactly_the_limit_is_opened(media):
    num_bytes = media["image"].stat().st_size
    assert len(open_with(media, "image", max_bytes=num_bytes))
    with pytest.raises(InputError, match=f"at most {num_bytes - 1:,} bytes"):
        open_with(media, "image", max_bytes=num_bytes - 1)


def test_new_limits_are_stored_only_if_they_differ_from_the_default():
    """Stored settings of older runs stay equal, so that runs can be resumed."""
    assert MediaLimits().model_dump() == {"max_px": 200_000_000, "num_frames": 16}
    settings = RunSettings(**dict(RolloutConfig()))
    assert settings.to_dict()["media"] == {"max_px": 200_000_000, "num_frames": 16}
    changed = MediaLimits(max_bytes=10, max_duration_s=5)
    written = json.loads(changed.model_dump_json())
    assert written == {
        "max_px": 200_000_000,
        "num_frames": 16,
        "max_bytes": 10,
        "max_duration_s": 5.0,
    }
    assert MediaLimits.model_validate(written) == changed
    assert MediaLimits.model_validate({"max_px": 5}) == MediaLimits(max_px=5)


def test_memory_is_checked_before_decoding(tmp_path):
    bits = (16_383 - 1) | (12_000 - 1) << 14
    content = b"VP8L" + struct.pack("<I", 13) + b"\x2f" + struct.pack("<I", bits) + bytes(9)
    head = b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP"
    (tmp_path / "a.webp").write_bytes((head + content)[:34])
    with pytest.raises(PixelLimitError, match="WEBP of 16383 x 12000 pixels, 3,931,920,000 bytes"):
        open_image(tmp_path / "a.webp", MediaLimits())


def test_scans_of_a_jpeg_are_counted_while_reading(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg_many_scans(Random(0)))
    with pytest.raises(InputError, match="at most 100 scans"):
        open_image(tmp_path / "a.jpg", MediaLimits())


def test_frames_of_a_folder_share_one_limit_of_memory(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png((100, 100), color=6))
    limits = MediaLimits(max_decode_bytes=3 * 40_000 + 40_000)
    assert len(sample_folder(tmp_path, limits)) == 3
    with pytest.raises(PixelLimitError, match="3 pictures, 120,000 bytes"):
        sample_folder(tmp_path, MediaLimits(max_decode_bytes=119_999))


def test_a_sparse_file_gets_no_additional_time(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(bytes(4096))
    os.truncate(path, 2**40)
    assert media_limits.Deadline(path, MediaLimits(), 1e6).left_s < 9


@pytest.mark.medium
def test_hostile_media_give_a_one_line_error_within_limits():
    """Short form of `attacks/media.py`: every kind that is opened quickly."""
    kinds = [kind for kind in KINDS if kind not in QUICK_EXCEPTIONS]
    results = list(attack.attack(kinds, len(kinds), seed=1))
    assert [one.line for one in results if one.failures] == []
    assert len({one.kind for one in results}) >= 35
