"""Every limit on media is enforced, named in its error, and changes nothing where it is not reached."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.schema.settings import MediaLimits, RolloutConfig, RunSettings
from test_decoder import scene, write_video
from test_media_context import question_of


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
    return MediaContext(question_of((kind, media[kind])), UNSCALED, MediaLimits(**limits))


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
    ],
)
def test_a_limit_is_named_with_the_file_and_the_way_to_raise_it(media, kind, limits, error):
    ((name, _),) = limits.items()
    with pytest.raises(error) as caught:
        open_with(media, kind, **limits)
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
def test_a_limit_that_is_just_reached_is_not_exceeded(media, kind, name, limit):
    assert len(open_with(media, kind, **{name: limit}))


def test_a_file_of_exactly_the_limit_is_opened(media):
    num_bytes = media["image"].stat().st_size
    assert len(open_with(media, "image", max_bytes=num_bytes))
    with pytest.raises(InputError, match=f"at most {num_bytes - 1:,} bytes"):
        open_with(media, "image", max_bytes=num_bytes - 1)


def test_new_limits_are_written_only_where_they_differ():
    """Settings of older runs stay equal to those of today, so runs can be resumed."""
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
