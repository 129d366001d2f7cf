"""Text layers of PDF pages: the box of a word is where the word is on the rendered page, however the page is turned and cropped."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from document_files import write_locked_pdf
from pixel_reasoner.errors import InputError
from pixel_reasoner.media.documents import render_page
from pixel_reasoner.media.page_text import Word, join_words
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.sources.documents.lines import page_lines
from text_documents import Page, write_pdf

pytest.importorskip("pypdfium2")
from pixel_reasoner.media.text_layer import MAX_CHARACTERS, text_layer

LIMITS = MediaLimits(max_px=600_000)  # pages are rendered smaller, in less time


def layer(path, page=None):
    return text_layer(path, LIMITS, page)


def lines(path) -> list[str]:
    return [line.text for line in page_lines(layer(path))]


@pytest.mark.parametrize(("rotate", "is_cropped"), list(product((0, 90, 180, 270), (False, True))))
def test_the_box_of_a_word_is_around_its_ink(tmp_path, rotate, is_cropped):
    page = Page((400, 300), rotate=rotate)
    if (
        is_cropped
    ):  # 30 points of the left or right, 20 of the upper or lower edge, and the opposite ones
        page.crop = (20, 30, 280, 360) if rotate % 180 else (30, 20, 360, 280)
    page.write(150, 160, "Evidence", 24)
    path = write_pdf(tmp_path / "a.pdf", [page])
    (word,) = layer(path).words
    assert word.text == "Evidence"
    pixels = np.asarray(render_page(path, LIMITS).convert("L"))
    rows, columns = np.nonzero(pixels < 128)
    ink = Box(
        columns.min() / pixels.shape[1],
        rows.min() / pixels.shape[0],
        (columns.max() + 1) / pixels.shape[1],
        (rows.max() + 1) / pixels.shape[0],
    )
    assert word.box.intersection(ink) > 0.99 * ink.area
    assert word.box.area < 2 * ink.area  # with the space for descenders


def test_words_of_one_line_are_in_reading_order_and_cells_are_apart(tmp_path):
    page = Page()
    page.write(300, 101, "right cell", 12)  # the order of the file differs
    page.write(60, 100, "the left", 12)
    page.write(60, 130, "below", 12)
    assert lines(write_pdf(tmp_path / "a.pdf", [page])) == ["the left", "right cell", "below"]


def test_columns_with_other_baselines_are_not_mixed(tmp_path):
    page = Page()
    for number in range(6):
        page.write(60, 100 + 15 * number, f"left column line {number}", 10)
        page.write(315, 104 + 15 * number, f"right column line {number}", 10)
    found = lines(write_pdf(tmp_path / "a.pdf", [page]))
    expected = {f"{side} column line {number}" for side in ("left", "right") for number in range(6)}
    assert set(found) == expected
    assert len(found) == 12


def test_sideways_text_is_left_out(tmp_path):
    page = Page()
    page.write(60, 100, "upright words here", 12)
    page.drawing.append("BT /F0 12 Tf 0 1 -1 0 300 300 Tm (sideways words here) Tj ET")
    texts = lines(write_pdf(tmp_path / "a.pdf", [page]))
    assert texts[0] == "upright words here"
    assert not any("words" in text for text in texts[1:])


def test_hidden_words_are_no_part_of_a_line(tmp_path):
    page = Page()
    page.write(60, 100, "shown", 12)
    page.drawing.append("1 g")
    page.write(60, 130, "white", 12)
    page.drawing.append("0 g")
    page.write(60, 160, "redacted", 12)
    page.cover(55, 148, 90, 18)
    path = write_pdf(tmp_path / "a.pdf", [page])
    assert {word.text for word in layer(path).words} == {"shown", "white", "redacted"}
    assert lines(path) == ["shown"]


def test_text_that_is_drawn_twice_is_read_once(tmp_path):
    page = Page()
    for shift in (0, 0.3):
        page.write(60 + shift, 100, "bold text", 12)
    assert lines(write_pdf(tmp_path / "a.pdf", [page])) == ["bold text"]


def test_dots_lead_to_the_next_line_of_the_row(tmp_path):
    page = Page()
    page.write(60, 100, "Chapter one ................ 12", 12)
    page.write(60, 130, "2.5 Another . . . . . . . . . . 14", 12)
    first, second = (
        line for line in page_lines(layer(write_pdf(tmp_path / "a.pdf", [page]))) if line.place == 0
    )
    assert (first.text, second.text) == ("Chapter one", "2.5 Another")
    ends = [line for line in page_lines(layer(tmp_path / "a.pdf")) if line.follows_leader]
    assert [line.text for line in ends] == ["12", "14"]


def write_with_font(path, texts):
    """Write lines with an embedded font that has other scripts than Latin."""
    pdfium = pytest.importorskip("pypdfium2")
    matplotlib = pytest.importorskip("matplotlib")
    import ctypes
    from pathlib import Path

    raw = pdfium.raw
    data = (Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf").read_bytes()
    document = pdfium.PdfDocument.new()
    page = document.new_page(595, 842)
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    font = raw.FPDFText_LoadFont(document, buffer, len(data), raw.FPDF_FONT_TRUETYPE, True)
    for number, text in enumerate(texts):
        item = raw.FPDFPageObj_CreateTextObj(document, font, 14.0)
        encoded = (text + "\0").encode("utf-16-le")
        wide = ctypes.cast(ctypes.create_string_buffer(encoded), raw.FPDF_WIDESTRING)
        raw.FPDFText_SetText(item, wide)
        raw.FPDFPageObj_Transform(item, 1, 0, 0, 1, 60, 740 - 30 * number)
        raw.FPDFPage_InsertObject(page, item)
    raw.FPDFPage_GenerateContent(page)
    document.save(path)
    document.close()
    return path


def test_other_alphabets_are_read(tmp_path):
    texts = ["Счёт номер 4711", "Ο αριθμός είναι 12", "10² ½ naïve"]
    assert lines(write_with_font(tmp_path / "a.pdf", texts)) == texts


def test_lines_from_right_to_left_are_in_reading_order():
    words = [  # a text layer has its words in any order
        Word("עולם", Box(0.1, 0.1, 0.2, 0.12)),
        Word("שלום", Box(0.21, 0.1, 0.3, 0.12)),
    ]
    page = layer_of(words)
    assert [line.text for line in page_lines(page)] == ["שלום עולם"]


def layer_of(words):
    from pixel_reasoner.media.page_text import PageText, TextOrigin

    return PageText(tuple(words), (1000, 1000), np.zeros((10, 10), np.uint8), TextOrigin.OCR)


def test_scripts_without_spaces_are_joined_without_them():
    words = [
        Word(one, Box(n / 20, 0.1, (n + 1) / 20, 0.15), False) for n, one in enumerate("発票番号")
    ]
    (line,) = page_lines(layer_of(words))
    assert line.text == join_words(words) == "発票番号"


def test_locked_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match="without a password"):
        layer(write_locked_pdf(tmp_path / "a.pdf"))
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7\njunk")
    with pytest.raises(InputError, match="a whole PDF file"):
        layer(tmp_path / "b.pdf")


def test_a_page_with_too_many_characters_is_named(tmp_path):
    page = Page()
    for number in range(MAX_CHARACTERS // 1000 + 2):
        page.write(10, 10 + number, "x" * 1000, 1)
    with pytest.raises(InputError, match="characters on one page"):
        text_layer(write_pdf(tmp_path / "a.pdf", [page]), DEFAULT_MEDIA_LIMITS)
