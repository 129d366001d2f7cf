"""Differences between a file and its picture are recorded: stretched greyscale, omitted pages and frames."""

from __future__ import annotations

import sys
from html import escape

import numpy as np
import pytest
from PIL import Image

from pixel_reasoner.cli import main
from pixel_reasoner.errors import InputError
from pixel_reasoner.media import rgb
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.images import image_size, open_image, picture_header
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports.page import write_report
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.runs.fingerprint import fingerprint
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.jsonl import question_of_row

LIMITS = MediaLimits()


def grey(path, low: int, high: int, hot: int | None = None):
    values = np.linspace(low, high, 10_000).round().astype(np.uint16).reshape(100, 100)
    if hot is not None:
        values[0, 0] = hot
    Image.fromarray(values).save(path)
    return path


def pages(path, num_pages: int = 3):
    is_animation = path.suffix != ".tif"  # whose frames have one size
    images = [
        Image.new("RGB", (8 if is_animation else 8 + n, 6), (n * 50, 0, 0))
        for n in range(num_pages)
    ]
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


def question(path, page: int | None = None) -> Question:
    return Question(id="1", text="?", media=(MediaItem(kind="image", path=str(path), page=page),))


# --- greyscale of 16 bits ---


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("hot", [None, 65_535])
def test_dark_grey_of_16_bits_is_stretched_to_black_and_white(tmp_path, suffix, hot):
    path = grey(tmp_path / f"a.{suffix}", 500, 4000, hot)
    values = np.asarray(open_image(path, LIMITS))[..., 0]
    assert values[0, 1] == 0
    assert values[-1, -1] == 255
    assert abs(int(np.median(values)) - 127) <= 1
    (note,) = picture_header(path, LIMITS).notes
    assert note.startswith(f"a.{suffix}: greyscale values 50")
    assert "are stretched to black to white" in note


@pytest.mark.parametrize(("low", "high"), [(0, 65_535), (500, 20_000), (7, 7)])
def test_other_greyscale_is_scaled_without_stretching(tmp_path, low, high):
    path = grey(tmp_path / "a.png", low, high)
    values = np.asarray(Image.open(path))
    assert np.array_equal(np.asarray(open_image(path, LIMITS))[..., 0], values >> 8)
    assert picture_header(path, LIMITS).notes == ()


def test_floats_are_stretched_with_a_note(tmp_path):
    Image.fromarray(np.array([[-0.5, np.nan, 0.25]], np.float32)).save(tmp_path / "a.tif")
    (note,) = picture_header(tmp_path / "a.tif", LIMITS).notes
    assert "greyscale values -0.5 to 0.25" in note


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "I;16", "F", "CMYK", "1"])
def test_a_picture_converted_in_bands_is_the_same(monkeypatch, mode):
    noise = np.random.default_rng(0).integers(0, 256, (50, 30, 4), np.uint8)
    image = Image.fromarray(noise, "RGBA").convert("RGBA" if mode[0] != "P" else "P")
    if mode in ("I;16", "F"):
        image = Image.fromarray(noise[..., 0].astype(np.uint16 if mode == "I;16" else np.float32))
    elif mode != "P":
        image = image.convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    convert = rgb.grey_to_rgb if rgb.is_deep_grey(image) else rgb.to_rgb
    whole = np.asarray(convert(image))
    monkeypatch.setattr(rgb, "_MAX_BAND_PX", 100)
    assert np.array_equal(np.asarray(convert(image)), whole)


# --- pages ---


def test_a_page_is_chosen_by_its_number(tmp_path):
    path = pages(tmp_path / "a.tif")
    for page in (1, 2, 3):
        assert image_size(path, LIMITS, page) == (7 + page, 6)
        assert open_image(path, LIMITS, page).getpixel((0, 0)) == ((page - 1) * 50, 0, 0)
        assert MediaContext(question(path, page), UNSCALED).picture(1).source_px == (7 + page, 6)


def test_the_error_of_a_missing_page_states_the_number_of_pages(tmp_path):
    with pytest.raises(InputError, match="no page 4; it has 3"):
        open_image(pages(tmp_path / "a.tif"), LIMITS, 4)
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png", LIMITS, 1) == (4, 3)
    with pytest.raises(InputError, match="no page 2; only TIFF has several"):
        image_size(tmp_path / "a.png", LIMITS, 2)


@pytest.mark.parametrize(
    ("name", "page", "note_start"),
    [
        ("a.tif", None, "a.tif: page 1 of 3 is used; choose one with --page"),
        ("a.tif", 1, None),
        ("a.gif", None, "a.gif: an animation, of which the first frame is used"),
        ("a.webp", None, "a.webp: an animation, of which the first frame is used"),
    ],
)
def test_omitted_pages_and_frames_are_recorded_in_the_trace(tmp_path, name, page, note_start):
    path = pages(tmp_path / name)
    trace = ask(question(path, page), ScriptedModel([r"\boxed{red}"]))
    assert len(trace.notes) == (note_start is not None)
    assert all(note.startswith(note_start) for note in trace.notes)
    assert Trace.from_line(trace.to_line()) == trace
    assert ('"notes"' in trace.to_line()) == (note_start is not None)
    page = tmp_path / "trace.html"
    write_report([trace], page)
    assert all(escape(note) in page.read_text() for note in trace.notes)


def test_the_page_is_part_of_the_question_fingerprint(tmp_path):
    first, second = question(tmp_path / "a.tif"), question(tmp_path / "a.tif", 2)
    assert fingerprint([first]) != fingerprint([second])


def test_a_row_may_select_the_page(tmp_path):
    row = {"id": 1, "question": "?", "answer": 2, "media": [{"path": "a.tif", "page": 2}]}
    assert question_of_row(row, tmp_path).media[0].page == 2
    row["media"][0]["page"] = 0
    with pytest.raises(ValueError, match="page"):
        question_of_row(row, tmp_path)


@pytest.fixture
def error_of(monkeypatch, capsys):
    """Return a function that runs `ask` with a missing model, so that it stops after opening the media. It returns standard error."""

    def command(*arguments: object) -> str:
        given = ["ask", "What?", "--model", "./nowhere", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", ["pixel-reasoner", *given])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        return capsys.readouterr().err

    return command


def test_ask_accepts_a_page_and_prints_the_used_one(tmp_path, error_of):
    path = pages(tmp_path / "a.tif")
    assert "note: a.tif: page 1 of 3 is used" in error_of("--image", path)
    assert "note:" not in error_of("--image", path, "--page", 3)
    assert "no page 4; it has 3" in error_of("--image", path, "--page", 4)
    assert "--page with --image" in error_of("--video", path, "--page", 3)
