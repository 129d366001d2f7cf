"""PDF pages, HEIC, AVIF and a region of a picture are media like any other: same size in header and pixels, upright, limited."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, strategies as st
from PIL import Image, features

from document_files import write_heic, write_locked_pdf, write_pdf
from pixel_reasoner.errors import InputError
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.documents import RENDER_DPI, num_document_pages
from pixel_reasoner.media.images import (
    check_picture,
    image_size,
    open_image,
    picture_header,
    picture_pages,
)
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits

LIMITS = MediaLimits()
pypdfium2 = pytest.importorskip("pypdfium2")


def context(path, **fields) -> MediaContext:
    item = MediaItem(kind="image", path=str(path), **fields)
    return MediaContext(Question(id="1", text="?", media=(item,)), UNSCALED)


# --- PDF ---


def test_a_page_is_rendered_at_the_stated_resolution(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", 2)
    header = picture_header(path, LIMITS, 2)
    assert header.size == (200 * RENDER_DPI // 72, 100 * RENDER_DPI // 72)
    assert header.notes == ("a.pdf: page 2 is rendered at 300 dpi",)
    image = open_image(path, LIMITS, 2)
    assert (image.size, image.mode) == (header.size, "RGB")
    assert image.getpixel((10, 10)) == (255, 0, 0)
    assert image.getpixel((image.width - 10, 10)) == (255, 255, 255)


def test_rotation_is_applied_once(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", extra="/Rotate 90")
    image = open_image(path, LIMITS)
    assert image.size == image_size(path, LIMITS) == (416, 833)
    assert image.getpixel((10, 10)) == (255, 0, 0)  # the left half is the upper one
    assert image.getpixel((10, image.height - 10)) == (255, 255, 255)


@given(
    width=st.integers(1, 20_000), height=st.integers(1, 20_000), max_px=st.integers(1, 1_000_000)
)
def test_a_page_of_any_size_is_within_the_limit_of_pixels(tmp_path_factory, width, height, max_px):
    path = write_pdf(tmp_path_factory.mktemp("pdf") / "a.pdf", size=(width, height))
    size = image_size(path, MediaLimits(max_px=max_px))
    # One more row or column, where a side would have less than one pixel.
    assert size[0] * size[1] <= max(max_px, *size)


def test_a_crop_of_a_page_has_the_pixels_of_the_rendered_page(tmp_path):
    media = context(write_pdf(tmp_path / "a.pdf"), page=1)
    crop = media.add_crop(1, Box(0.25, 0.0, 0.75, 0.5))
    assert crop.source_px == (417, 208)
    pixels = media.pixels(crop.number)
    assert pixels.getpixel((5, 5)) == (255, 0, 0)
    assert pixels.getpixel((pixels.width - 5, 5)) == (255, 255, 255)


def test_a_document_of_ten_thousand_pages_is_counted_without_rendering(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", 10_000)
    assert num_document_pages(path, LIMITS) == 10_000
    assert picture_pages(path, LIMITS)[-1] == 10_000


def test_a_password_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"expected a PDF without a password; got .*qpdf --decrypt"
    ):
        picture_header(write_locked_pdf(tmp_path / "a.pdf"), LIMITS)


@pytest.mark.parametrize("content", [b"", b"junk", b"%PDF-1.7\n" + b"x" * 500])
def test_a_broken_document_is_one_error_that_names_it(tmp_path, content):
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    for read in (picture_header, open_image, check_picture, image_size):
        with pytest.raises(InputError, match=r"expected a whole PDF file; got .*a\.pdf"):
            read(path, LIMITS)


def test_a_page_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="no page 3; it has 2"):
        open_image(write_pdf(tmp_path / "a.pdf", 2), LIMITS, 3)


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(InputError, match=r"expected pypdfium2.*\[workflows\]"):
        image_size(write_pdf(tmp_path / "a.pdf"), LIMITS)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(InputError, match=r"expected pi-heif.*\[workflows\]"):
        image_size(write_heic(tmp_path / "a.heic"), LIMITS)


# --- HEIC and AVIF ---


def _is(pixel, colour) -> bool:
    return all(abs(one - other) < 40 for one, other in zip(pixel, colour, strict=True))


RED, BLUE = (220, 30, 30), (30, 30, 220)


def test_a_heic_picture_is_upright_with_and_without_orientation(tmp_path):
    pytest.importorskip("pi_heif")
    path = write_heic(tmp_path / "a.heic")
    image = open_image(path, LIMITS)
    assert image.size == image_size(path, LIMITS) == (96, 64)
    assert _is(image.getpixel((10, 10)), RED)
    assert _is(image.getpixel((90, 60)), BLUE)
    turned = write_heic(tmp_path / "b.heic", turned=True)
    image = open_image(turned, LIMITS)
    assert image.size == image_size(turned, LIMITS) == (64, 96)
    assert _is(image.getpixel((60, 10)), RED)
    assert _is(image.getpixel((10, 90)), BLUE)


def test_a_heic_picture_is_decoded_whatever_its_name_is(tmp_path):
    pytest.importorskip("pi_heif")
    assert open_image(write_heic(tmp_path / "a.jpg"), LIMITS).size == (96, 64)


@pytest.mark.parametrize("num_bytes", [20, 300, 500])
def test_a_truncated_heic_picture_is_an_error(tmp_path, num_bytes):
    pytest.importorskip("pi_heif")
    path = write_heic(tmp_path / "a.heic")
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(InputError, match=r"a\.heic"):
        open_image(path, LIMITS)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_avif_picture_is_turned_upright_once(tmp_path, orientation):
    image = Image.new("RGB", (96, 64), "white")
    image.paste(RED, (0, 0, 48, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.avif"
    image.save(path, exif=exif)
    upright = open_image(path, LIMITS)
    assert upright.size == image_size(path, LIMITS) == ((96, 64) if orientation < 5 else (64, 96))
    corner = {1: (10, 10), 3: (85, 55), 6: (55, 10), 8: (10, 85)}[orientation]
    assert _is(upright.getpixel(corner), RED)


# --- pages of a TIFF ---


def test_small_copies_in_a_tiff_are_no_pages(tmp_path):
    path = tmp_path / "a.tif"
    pages = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}  # a reduced copy
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert picture_pages(path, LIMITS) == [1, 3]


# --- a region as a medium ---


def test_a_region_is_all_that_the_context_shows(tmp_path):
    image = Image.new("RGB", (100, 80), "white")
    image.paste(RED, (50, 40, 100, 80))
    path = tmp_path / "a.png"
    image.save(path)
    media = context(path, region=Box(0.5, 0.5, 1.0, 1.0))
    assert media.picture(1).source_px == (50, 40)
    assert media.source(1).getextrema() == tuple((one, one) for one in RED)
    crop = media.add_crop(1, Box(0.0, 0.0, 0.5, 0.5))
    assert (crop.source_px, media.pixels(crop.number).size) == ((25, 20), (25, 20))


def test_a_region_of_a_clip_is_taken_of_each_frame(clip):
    item = MediaItem(kind="video", path=str(clip), region=Box(0.0, 0.0, 0.5, 1.0))
    media = MediaContext(Question(id="1", text="?", media=(item,)), UNSCALED)
    assert {media.source(n).size for n in range(1, len(media) + 1)} == {(48, 64)}


def test_a_region_survives_the_file(tmp_path):
    question = Question(
        id="1", text="?", media=(MediaItem(kind="image", path="a", region=Box(0.1, 0.2, 0.3, 0.4)),)
    )
    assert Question.from_line(question.to_line()) == question
