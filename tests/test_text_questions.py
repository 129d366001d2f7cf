"""Questions about the text of pages: unique anchors, answers inside of their evidence, operations only where text is illegible."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.media.page_text import PageText, TextOrigin, Word, join_words
from pixel_reasoner.media.resize import fit_size, region_px
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.operations.zoom import expand_box
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.scoring.numbers import parse_number
from pixel_reasoner.sources.documents import candidates, labels, questions, sentences
from pixel_reasoner.sources.documents.absent import absent_candidates
from pixel_reasoner.sources.documents.legibility import Legibility
from pixel_reasoner.sources.documents.phrases import PageWords, tokens
from pixel_reasoner.sources.documents.questions import Mixture, OpenPage, page_questions
from text_documents import KINDS, Page, write_pdf

pytest.importorskip("pypdfium2")
from pixel_reasoner.media.text_layer import text_layer
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS

SMALL = folder_settings(BUNDLED_MODELS["tiny"]).budgets
EVERY = Mixture(per_page=60, overview_share=0.0)


def opened(tmp_path, pages, number=1) -> OpenPage:
    path = write_pdf(tmp_path / "a.pdf", pages)
    text = text_layer(path, DEFAULT_MEDIA_LIMITS, number)
    media = MediaItem(kind="image", path=str(path), page=number)
    return OpenPage(f"a.pdf#page={number}", "a.pdf", media, candidates.Page(text))


def ask(page: OpenPage, budgets=SMALL, mixture=EVERY, seed=0):
    return page_questions(page, Legibility(budgets), mixture, random.Random(seed))


def quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


def page_of(tmp_path, *lines) -> OpenPage:
    page = Page()
    for number, line in enumerate(lines):
        page.write(60, 80 + 20 * number, line, 12)
    return opened(tmp_path, [page])


def answers(found) -> dict[str, str]:
    """Return kind and first answer of candidates."""
    return {one.question: one.answer for one in found}


@pytest.mark.parametrize("kind", KINDS)
def test_anchors_occur_once_and_the_answer_is_inside_the_evidence(tmp_path, kind):
    page = opened(tmp_path, kind(random.Random(f"test/{kind.__name__}")))
    found = ask(page)
    assert len(found) > 5
    for question in found:
        task = question.category.partition("/")[2]
        if task in ("continue", "number", "key_value", "next_to"):
            anchor = quoted(question.text)[0].partition(" ... ")[0]
            assert page.page.words.count(anchor) == 1
        if task in ("contains", "occurs", "count"):
            continue
        (box,) = question.evidence.boxes
        inside = [
            word
            for word in page.page.text.words
            if word.box.intersection(box) > 0.9 * word.box.area
        ]
        assert question.answer[0] in join_words(inside)
        assert question.answer[0] in question.evidence.findings[-1]


def test_every_crop_of_an_operation_shows_the_text_legibly(tmp_path):
    page = opened(tmp_path, KINDS[0](random.Random(1)))
    size = page.page.text.size_px
    for question in ask(page):
        assert question.needs_look
        for box in question.evidence.boxes:
            region = region_px(size, expand_box(box, 0.25, 0.12))
            width, height = region[2] - region[0], region[3] - region[1]
            scale = fit_size((width, height), SMALL.crop, SMALL.multiple)[1] / height
            words = [
                one.box
                for one in page.page.text.words
                if one.box.intersection(box) > 0.9 * one.box.area
            ]
            assert words
            assert all((one.y2 - one.y1) * size[1] * scale >= 12 for one in words)


def test_legible_text_needs_no_operation(tmp_path):
    page = opened(tmp_path, KINDS[0](random.Random(1)))
    large = COMPACT.budgets.model_copy(
        update={"picture": COMPACT.budgets.picture.model_copy(update={"max_px": 4_000_000})}
    )
    found = ask(page, large, Mixture(10, 0.3))
    assert found
    assert not any(question.needs_look or question.evidence for question in found)
    assert all(
        question.answer[0] in question.reasoning
        or "/occurs" in question.category
        or "/contains" in question.category
        for question in found
    )


def test_the_share_of_overview_questions_is_kept_where_both_exist(tmp_path):
    page = Page()
    for number in range(12):
        page.write(
            60, 60 + 45 * number, f"Large {number}a words {number}b go {number}c on here", 30
        )
        page.write(
            60, 75 + 45 * number, f"and small {number}d words {number}e follow {number}f below", 6
        )
    found = ask(opened(tmp_path, [page]), COMPACT.budgets, Mixture(12, 0.25))
    shares = [question.needs_look for question in found]
    assert len(found) == 12
    assert shares.count(False) == 3


# --- kinds ---


def test_a_label_is_asked_about_once_per_page(tmp_path):
    page = page_of(tmp_path, "Invoice no.: 4711", "Date: 12 May", "Total: 10", "Total: 20")
    found = answers(labels.key_values(page.page, random.Random(0)))
    assert sorted(found.values()) == ["12 May", "4711"]
    assert all("Total" not in question for question in found)


def test_a_value_in_a_column_belongs_to_its_label_and_one_of_another_column_does_not(tmp_path):
    page = Page()
    for number, (label, value) in enumerate(
        (("Name:", "Ada"), ("City:", "Paris"), ("Code:", "77"))
    ):
        page.write(60, 80 + 20 * number, label, 12)
        page.write(200, 80 + 20 * number, value, 12)
    page.write(60, 400, "as follows:", 12)
    page.write(315, 400, "text of another column that goes on and on", 12)
    found = labels.key_values(opened(tmp_path, [page]).page, random.Random(0))
    assert sorted(one.answer for one in found) == ["77", "Ada", "Paris"]


def test_a_label_with_its_value_is_no_label_of_the_next_column(tmp_path):
    page = Page()
    for number in range(4):
        page.write(60, 80 + 20 * number, f"Name{number}: {number}0", 12)
        page.write(300, 80 + 20 * number, f"Code{number}: {number}1", 12)
    page.write(60, 200, "Contents ........ 12", 12)
    found = opened(tmp_path, [page]).page
    assert [one.answer for one in labels.next_to(found, random.Random(0))] == ["12"]
    assert len(list(labels.key_values(found, random.Random(0)))) == 8


def table_page(headings, rows) -> Page:
    page = Page()
    for number, row in enumerate([headings, *rows]):
        for x, cell in zip((60, 200, 320), row, strict=True):
            page.write(x, 100 + 20 * number, cell, 12)
    return page


def test_a_cell_is_found_by_its_row_and_column(tmp_path):
    rows = [
        ("Apple", "12", "red"),
        ("Pear", "30", "green"),
        ("Plum", "7", "blue"),
        ("Plum", "8", "black"),
    ]
    page = opened(tmp_path, [table_page(("Fruit", "Price", "Colour"), rows)])
    found = {
        tuple(sorted(quoted(one.question))): one.answer
        for one in labels.cells(page.page, random.Random(0))
    }
    assert found == {
        ("Apple", "Price"): "12",
        ("Apple", "Colour"): "red",
        ("Pear", "Price"): "30",
        ("Colour", "Pear"): "green",
    } | {key: value for key, value in found.items() if "Apple" in key}
    assert not any("Plum" in key for key in found)  # two rows have this name


@pytest.mark.parametrize(
    ("headings", "rows"),
    [
        (("1", "2", "3"), [("a", "4", "5"), ("b", "6", "7")]),  # no names of columns
        (("Fruit", "Price", "Price"), [("Apple", "4", "5"), ("Pear", "6", "7")]),  # one name twice
        (
            ("Fruit", "Price", "Colour"),
            [("Apple", "low", "red"), ("Pear", "high", "green")],
        ),  # perhaps no headings
    ],
)
def test_a_table_without_certain_headings_is_not_asked_about(tmp_path, headings, rows):
    page = opened(tmp_path, [table_page(headings, rows)])
    assert not list(labels.cells(page.page, random.Random(0)))


def test_two_columns_of_text_are_no_table_and_words_of_both_are_not_joined(tmp_path):
    article = next(kind for kind in KINDS if kind.__name__ == "article")
    page = opened(tmp_path, article(random.Random(5)))
    assert not list(labels.cells(page.page, random.Random(0)))
    in_columns = [" ".join(tokens(line.text)) for line in page.page.lines]
    for one in sentences.continuations(page.page, random.Random(0)):
        phrase = " ".join(tokens(f"{quoted(one.question)[0]} {one.answer}"))
        assert any(phrase in line for line in in_columns)


def test_a_number_between_words_has_the_value_of_the_page(tmp_path):
    page = page_of(
        tmp_path, "The pool holds 1,250 litres of cold water", "and is open for 8.5 hours every day"
    )
    found = answers(sentences.numbers(page.page, random.Random(0)))
    assert {parse_number(answer) for answer in found.values()} == {
        parse_number("1250"),
        parse_number("8.5"),
    }


def test_counted_words_are_counted_in_any_case_and_not_inside_of_others(tmp_path):
    page = page_of(
        tmp_path,
        "Insurance covers the insurance of",
        "an insured person. Reinsurance does",
        "not. Insurance ends.",
    )
    found = answers(sentences.counts(page.page, random.Random(0)))
    assert [answer for question, answer in found.items() if '"insurance"' in question] == ["3"]


def test_words_that_recognition_may_have_missed_are_not_counted():
    words = [Word("insurance", Box(0.1, y, 0.3, y + 0.05), score=0.99) for y in (0.1, 0.3)]
    text = PageText(tuple(words), (500, 500), np.zeros((9, 9), np.uint8), TextOrigin.OCR)
    assert not list(sentences.counts(candidates.Page(text), random.Random(0)))


def test_absent_phrases_are_not_on_the_page_and_their_regions_cover_its_text(tmp_path):
    page = opened(tmp_path, KINDS[0](random.Random(3))).page
    found = list(absent_candidates(page, Legibility(COMPACT.budgets), random.Random(0)))
    assert found
    for one in found:
        assert one.answer == "no"
        assert page.words.count(quoted(one.question)[0]) == 0
        for line in page.lines:
            shown = sum(line.box.intersection(part.box) for part in one.parts)
            assert shown == pytest.approx(line.box.area)


def test_no_phrase_is_called_absent_where_six_crops_do_not_show_the_page(tmp_path):
    page = opened(tmp_path, KINDS[0](random.Random(3)))
    assert not list(absent_candidates(page.page, Legibility(SMALL), random.Random(0)))
    assert not any(
        "/occurs" in question.category for question in ask(page)
    )  # it would always be yes


def test_yes_and_no_are_about_equally_frequent(tmp_path):
    counts = {"yes": 0, "no": 0}
    for seed in range(8):
        page = opened(tmp_path, KINDS[0](random.Random(seed)))
        for question in ask(page, COMPACT.budgets, Mixture(60, 1.0), seed):
            if question.answer[0] in counts:
                counts[question.answer[0]] += 1
    assert min(counts.values()) > 0.3 * sum(counts.values())


def test_the_largest_text_is_the_title_only_if_it_is_much_larger(tmp_path):
    lines = [f"a line of text number {number}" for number in range(6)]
    assert not list(labels.titles(page_of(tmp_path, *lines).page, random.Random(0)))
    page = Page()
    page.write(60, 50, "Annual report", 24)
    for number, line in enumerate(lines):
        page.write(60, 100 + 20 * number, line, 12)
    (title,) = labels.titles(opened(tmp_path, [page]).page, random.Random(0))
    assert title.answer == "Annual report"


# --- filters ---


@pytest.mark.parametrize(
    "text",
    [
        "I N V O I C E nr 1",
        "w" * 40 + " is long here",
        "x" * 9 + " ----//////====~~~~ #######",
        "FranÃ§ais Ã© la carte ici",
    ],
)
def test_junk_is_not_asked_about(tmp_path, text):
    page = page_of(tmp_path, text)
    assert not any(line.is_clean for line in page.page.lines)
    assert not ask(page)


def test_an_answer_is_whole(tmp_path):
    assert candidates.is_answer([Word("(see", Box(0, 0, 1, 1)), Word("page)", Box(0, 0, 1, 1))])
    assert not candidates.is_answer([Word("(see", Box(0, 0, 1, 1))])
    assert not candidates.is_answer([Word("hyphen", Box(0, 0, 1, 1), ends_in_hyphen=True)])
    assert not candidates.is_answer([Word("hyphen-", Box(0, 0, 1, 1))])
    assert not candidates.is_answer([])


def test_a_phrase_with_a_hidden_copy_does_not_occur_once(tmp_path):
    page = Page()
    page.write(60, 80, "Secret code: 4711", 12)
    page.write(60, 120, "Secret code: 4711", 12)
    page.cover(55, 105, 200, 20)
    found = opened(tmp_path, [page])
    assert [line.text for line in found.page.lines] == ["Secret code: 4711"]
    assert not found.page.words.has_once("Secret code")


@pytest.mark.parametrize(
    ("text", "phrase", "count"),
    [
        ("one two one two one", "one two", 2),
        ("aa aa aa", "aa aa", 2),
        ("insurance, Insurance", "insurance", 2),
        ("発票番号 発票", "発票", 2),
        ("reinsurance", "insurance", 0),
        ("anything", "...", 0),
    ],
)
def test_phrases_are_counted_as_whole_words(text, phrase, count):
    words = PageWords([Word(one, Box(0, 0, 1, 1)) for one in text.split()], [])
    assert words.count(phrase) == count


def test_several_pages_are_asked_for_the_one_with_a_phrase(tmp_path):
    report = next(kind for kind in KINDS if kind.__name__ == "report")
    pages = report(random.Random(2))
    all_pages = [opened(tmp_path, pages, number + 1) for number in range(len(pages))]
    found = questions.find_page_questions(all_pages, Legibility(SMALL), 6, random.Random(0))
    assert len(found) == 6
    for question in found:
        number = int(question.answer[0])
        assert [one.page.words.count(quoted(question.text)[0]) for one in all_pages] == [
            int(at == number) for at in range(1, len(pages) + 1)
        ]
        assert question.evidence.image == number
        assert len(question.media) == len(pages)


def test_labels_in_other_scripts_are_asked_about():
    rows = ["発票番号：4711", "合計金額：980"]
    words = [
        Word(
            character,
            Box(0.1 + 0.03 * n, 0.1 + 0.1 * row, 0.13 + 0.03 * n, 0.14 + 0.1 * row),
            n == 0,
        )
        for row, text in enumerate(rows)
        for n, character in enumerate([*text[:5], text[5:]])
    ]
    text = PageText(tuple(words), (1000, 1000), np.zeros((9, 9), np.uint8), TextOrigin.OCR)
    found = answers(labels.key_values(candidates.Page(text), random.Random(0)))
    assert sorted(found.values()) == ["4711", "980"]
    assert any("発票番号" in question for question in found)
