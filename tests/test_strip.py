"""Strips and animations of traces: real pixels, texts that fit, hostile and long traces, alt text in the file."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageSequence

from conftest import full_disk
from pixel_reasoner.errors import OutputError, UsageError
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.reports.animation import MAX_BYTES, draw_frames, reading_ms
from pixel_reasoner.reports.marks import COLORS, BoxMark, draw_boxes, ink_on
from pixel_reasoner.reports.panels import MAX_TEXT_CHARS, PanelKind, alt_text, one_line, storyboard
from pixel_reasoner.reports.strip import WIDTH_PX, draw_strip
from pixel_reasoner.reports.typesetting import Style, Typesetter
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.trace import Picture, StopReason, Trace, Transform, Turn
from report_fixture import all_traces, answer, picture_trace, rejected_zoom, zoom

NAMES = (
    "zoom",
    "zoom into zoom",
    "refusal",
    "video",
    "failed",
    "missing media",
    "hostile",
    "no expected answer",
    "no answer",
    "no turns",
)
BLUE, ORANGE = (ImageColor.getrgb(color) for color in COLORS[:2])
QUARTERS = {
    "crimson": Box(0, 0, 0.5, 0.5),
    "teal": Box(0.5, 0, 1, 0.5),
    "gold": Box(0, 0.5, 0.5, 1),
    "indigo": Box(0.5, 0.5, 1, 1),
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    return all_traces(tmp_path_factory.mktemp("strip"))


def quarters(folder):
    """Return a picture with a colour in each quarter, of the size that the traces record."""
    image = Image.new("RGB", (960, 720))
    for color, box in QUARTERS.items():
        x1, y1, x2, y2 = (v * side for v, side in zip(box, (960, 720) * 2, strict=True))
        image.paste(color, (int(x1), int(y1), int(x2), int(y2)))
    path = folder / "quarters.png"
    image.save(path)
    return path


def count_pixels(image: Image.Image, color) -> int:
    rgb = ImageColor.getrgb(color) if isinstance(color, str) else color
    difference = ImageChops.difference(image.convert("RGB"), Image.new("RGB", image.size, rgb))
    return difference.convert("L").point(lambda value: 255 * (value == 0)).histogram()[255]


def description(image: Image.Image) -> str:
    """Return the alt text in the metadata of an open file."""
    if image.format == "PNG":
        return image.text["Description"]
    if image.format == "GIF":
        return image.info["comment"].decode()
    return image.info["xmp"].decode()


# --- pixels ---


def test_every_crop_is_shown_in_the_strip(tmp_path):
    path = quarters(tmp_path)
    without = draw_strip(picture_trace(path, answer("6")))[0]
    for color, box in QUARTERS.items():
        inside = Box(
            *(0.5 * (low + mid) for low, mid in zip(box, (0.25, 0.25, 0.75, 0.75), strict=True))
        )
        image, notes = draw_strip(picture_trace(path, zoom(2, inside), answer("6")))
        others = [one for one in QUARTERS if one != color]
        assert notes == ()
        assert count_pixels(image, color) > 1.2 * max(count_pixels(image, one) for one in others)
        assert count_pixels(without, color) == pytest.approx(
            count_pixels(without, others[0]), rel=0.01
        )


def test_boxes_are_drawn_in_the_colour_of_their_step_where_they_are():
    image = Image.new("RGB", (400, 300))
    marks = [BoxMark(Box(0.25, 0.5, 0.5, 0.75), 1), BoxMark(Box(0.7, 0.1, 0.9, 0.3), 2)]
    draw_boxes(image, marks, Typesetter(20))
    assert image.getpixel((98, 190)) == BLUE
    assert image.getpixel((201, 190)) == BLUE
    assert image.getpixel((150, 148)) == BLUE
    assert image.getpixel((150, 190)) == (0, 0, 0)
    assert image.getpixel((361, 60)) == ORANGE


@given(
    x=st.floats(0, 0.999), y=st.floats(0, 0.999), width=st.floats(1e-6, 1), height=st.floats(1e-6, 1),
    size=st.tuples(st.integers(30, 300), st.integers(30, 300)), step=st.integers(1, 99_999),
)  # fmt: skip
def test_any_box_on_any_picture_is_visible(x, y, width, height, size, step):
    image = Image.new("RGB", size)
    box = Box(x, y, min(1.0, x + width), min(1.0, y + height))
    draw_boxes(image, [BoxMark(box, step)], Typesetter(20))
    assert count_pixels(image, COLORS[(step - 1) % len(COLORS)]) > 20


def test_all_sides_of_a_box_as_large_as_the_picture_are_visible():
    image = Image.new("RGB", (300, 200))
    draw_boxes(image, [BoxMark(Box(0, 0, 1, 1), 1)], Typesetter(20))
    sides = [(0, 80, 20, 90), (280, 80, 300, 90), (140, 0, 150, 20), (140, 180, 150, 200)]
    assert all(count_pixels(image.crop(side), BLUE) >= 30 for side in sides)


def test_a_step_of_a_video_marks_its_frames(traces):
    image, _ = draw_strip(traces["video"])
    assert count_pixels(image, BLUE) > 5_000
    assert count_pixels(draw_strip(traces["no turns"])[0], BLUE) == 0


def test_numbers_on_all_colours_have_the_better_contrast():
    assert {ink_on(color) for color in COLORS} == {"#ffffff", "#1b1f24"}


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES)
def test_every_trace_has_a_strip_and_an_animation(traces, tmp_path, name):
    trace = traces[name]
    strip = trace.save_strip(tmp_path / "a.png")
    animation = trace.save_animation(tmp_path / "a.gif")
    with Image.open(strip.out) as image:
        assert image.width == WIDTH_PX
        assert 400 < image.height < 4000
    with Image.open(animation.out) as image:
        assert image.width <= 960
        assert image.info["loop"] == 0
    assert animation.out.stat().st_size <= MAX_BYTES
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.gif", "a.png"]


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "gif"])
def test_equal_traces_give_equal_files(traces, tmp_path, suffix):
    files = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.{suffix}"
        trace = Trace.from_line(traces["zoom into zoom"].to_line())
        (trace.save_animation if suffix == "gif" else trace.save_strip)(str(path))
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_a_turned_crop_is_shown_turned(tmp_path):
    path = quarters(tmp_path)
    turn = zoom(2, Box(0, 0, 0.5, 1))
    picture = turn.observations[0].pictures[0]
    turned = picture.model_copy(
        update={"transforms": (Transform(name="rotate", arguments={"quarter_turns": 1}),)}
    )
    observation = turn.observations[0].model_copy(update={"pictures": (turned,)})
    trace = picture_trace(
        path, turn.model_copy(update={"observations": (observation,)}), answer("6")
    )
    tall, _ = draw_strip(picture_trace(path, turn, answer("6")))
    wide, notes = draw_strip(trace)
    assert notes == ()
    assert wide.height < tall.height
    assert len(draw_frames(trace, 480)[0]) > 3


# --- texts ---


@given(text=st.text(max_size=300), width=st.integers(20, 400), max_lines=st.integers(1, 9))
def test_wrapped_text_loses_no_word_or_ends_with_an_ellipsis(text, width, max_lines):
    typesetter, style = Typesetter(20), Style(20)
    text = one_line(text)
    lines = typesetter.wrap(text, style, width, max_lines)
    joined, given_ = ("".join("".join(part).split()) for part in (lines, text))
    assert len(lines) <= max_lines
    assert joined == given_ or (joined.endswith("…") and given_.startswith(joined[:-1].rstrip("…")))
    for line in lines:
        assert len(line) <= 2 or typesetter.width(line, style) <= width + style.size_px


@given(st.text(max_size=3000))
def test_a_shortened_text_is_one_visible_line(text):
    short = one_line(text)
    assert len(short) <= MAX_TEXT_CHARS
    assert not set(short) & set("\n\r\t\x00\x1b\u202e\u2066")
    short.encode()


def test_a_character_without_a_font_is_a_box_and_a_note():
    typesetter = Typesetter(40)
    image = Image.new("RGB", (200, 60))
    typesetter.draw(ImageDraw.Draw(image), (5, 5), ["A\U000f0000"], Style(40, color="#ffffff"))
    assert image.getbbox()[2] > typesetter.width("A", Style(40)) + 10
    assert "no font for 1 characters" in typesetter.note


HOSTILE_TEXTS = {
    "control": "\x00\x1b[2J\x07" * 100,
    "bidi": "a\u202eb\u2066c",
    "long word": "x" * 10_000,
    "many words": "why " * 10_000,
    "newlines": "a\n\n\n" * 500,
    "marks": "a" + "\u0301" * 2_000,
    "surrogate": "a \ud800 b",
    "emoji": "👩‍👩‍👧 🇩🇪 \ufe0f",
    "scripts": "中文 العربية हिन्दी ไทย 한국어",
    "empty": "",
    "blank": " \t ",
}


@pytest.mark.medium
@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_gives_a_picture(traces, tmp_path, text):
    trace = traces["zoom"]
    question = trace.question.model_copy(update={"text": text, "answer": (text,)})
    first = zoom(2, Box(0.1, 0.1, 0.4, 0.4), thought=text)
    refused = rejected_zoom(text=text)
    turns = (first, refused, Turn(text=f"{text}\\boxed{{{text}}}"))
    hostile = trace.model_copy(update={"question": question, "turns": turns, "answer": text})
    start = time.process_time()
    written = hostile.save_strip(tmp_path / "a.png")
    hostile.save_animation(tmp_path / "a.gif")
    assert time.process_time() - start < 20
    assert len(written.alt_text) < 2_000
    with Image.open(written.out) as image:
        assert description(image) == written.alt_text


# --- unusual traces ---


def test_a_missing_picture_is_a_tile_with_the_reason_and_a_note(traces, tmp_path):
    written = traces["missing media"].save_strip(tmp_path / "a.png")
    assert len(written.notes) == 1
    assert "2 pictures not shown" in written.notes[0]
    assert "gone.png: no such file" in written.notes[0]


@pytest.mark.medium
def test_a_long_trace_shows_its_first_and_last_steps(traces, tmp_path):
    turns = [zoom(n + 2, Box(0.1 + n / 20_000, 0.1, 0.3 + n / 20_000, 0.3)) for n in range(10_000)]
    path = traces["zoom"].question.media[0].path
    trace = picture_trace(path, *turns, answer("6"), answer="6")
    panels = storyboard(trace).panels
    assert [one.number for one in panels] == [0, 1, 2, 3, 4, 5, 6, 9990, 9997, 9998, 9999, 10_000]
    assert panels[7].kind is PanelKind.OMITTED
    start = time.process_time()
    written = trace.save_strip(tmp_path / "a.png")
    assert time.process_time() - start < 20
    assert "9,990 steps are left out." in written.alt_text
    assert written.notes == ()


@pytest.mark.medium
@pytest.mark.parametrize("num_steps", range(13))
def test_any_number_of_steps_has_a_layout(traces, num_steps):
    turns = [zoom(n + 2, Box(0.1, 0.1, 0.4, 0.4)) for n in range(num_steps)]
    path = traces["zoom"].question.media[0].path
    image, _ = draw_strip(picture_trace(path, *turns, answer("6"), answer="6"))
    assert image.width == WIDTH_PX


def test_a_question_with_many_pictures_shows_those_with_crops(traces, tmp_path):
    path = traces["zoom"].question.media[0].path
    media = tuple(MediaItem(kind="image", path=path) for _ in range(40))
    pictures = tuple(
        Picture(number=n + 1, medium=n, source_px=(960, 720), seen_px=(256, 192)) for n in range(40)
    )
    turn = zoom(41, Box(0.1, 0.1, 0.4, 0.4), parent=38)
    crop = turn.observations[0].pictures[0].model_copy(update={"medium": 37})
    turn = turn.model_copy(
        update={"observations": (turn.observations[0].model_copy(update={"pictures": (crop,)}),)}
    )
    trace = picture_trace(path, turn, answer("6"), about={"media": media}, pictures=pictures)
    image, notes = draw_strip(trace)
    assert notes == ()
    assert image.height < 4000
    assert count_pixels(image, BLUE) > count_pixels(
        draw_strip(trace.model_copy(update={"turns": ()}))[0], BLUE
    )


@pytest.mark.parametrize("size", [(20_000, 4), (4, 20_000), (9, 9)])
def test_a_picture_of_any_shape_fits(tmp_path, size):
    path = tmp_path / "a.png"
    Image.new("RGB", size, "red").save(path)
    picture = Picture(number=1, medium=0, source_px=size, seen_px=(64, 64))
    question = Question(id="1", text="?", media=(MediaItem(kind="image", path=str(path)),))
    trace = Trace(question=question, pictures=(picture,), stop=StopReason.MAX_TURNS)
    image, notes = draw_strip(trace)
    assert notes == ()
    assert image.size[0] == WIDTH_PX
    assert image.height < 1_500


@pytest.mark.medium
def test_a_picture_of_200_million_pixels_is_shown(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (20_000, 9_990), 128).save(path, compress_level=1)
    question = Question(id="1", text="?", media=(MediaItem(kind="image", path=str(path)),))
    seen = MediaContext(question, UNSCALED).picture(1)
    assert seen.source_px == (20_000, 9_990)
    picture = seen.model_copy(update={"seen_px": (512, 256)})
    image, notes = draw_strip(Trace(question=question, pictures=(picture,), stop="max_turns"))
    assert notes == ()
    assert image.width == WIDTH_PX


# --- alt text ---


def test_the_alt_text_mentions_each_step(traces):
    assert alt_text(traces["zoom into zoom"]) == (
        "Question: Which digit is on the red disc? The picture has 960 × 720 pixels. "
        "The model writes: “I cannot read it, so I zoom in.” "
        "Step 1: zoom in on picture 1, the box in the upper left (12–38 % from the left, 15–45 % from the top). "
        "The model writes: “Closer.” "
        "Step 2: zoom in on picture 2, the box in the upper left (20–30 % from the left, 24–36 % from the top). "
        "The model writes: “Now I can read it.” Answer: 8. It is wrong; expected: 6."
    )
    refused = alt_text(traces["refusal"])
    assert "bad box: box is inverted: give [x1, y1, x2, y2]." in refused
    assert refused.endswith("Answer: 6. It is right; expected: 6.")
    assert "look at frames 4, 7" in alt_text(traces["video"])
    assert "No answer: the context is full." in alt_text(traces["no turns"])
    assert "No answer: not a picture: broken.png." in alt_text(traces["failed"])


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg", "b.gif", "b.webp"])
def test_the_file_contains_the_alt_text(traces, tmp_path, name):
    trace, path = traces["zoom"], tmp_path / name
    written = (trace.save_animation if name.startswith("b") else trace.save_strip)(path)
    with Image.open(path) as image:
        assert written.alt_text in description(image)


@pytest.mark.parametrize("stop", StopReason)
def test_every_reason_to_stop_without_an_answer_is_in_words(stop):
    question = Question(id="1", text="?", media=())
    words = alt_text(Trace(question=question, stop=stop))
    assert words.startswith("Question: ? No answer: the ")
    assert "_" not in words


# --- animations ---


def test_frames_show_box_crop_text_and_answer_in_this_order(traces):
    frames, notes = draw_frames(traces["zoom"], 480)
    assert notes == ()
    assert [frame.is_growing for frame in frames] == [*[False] * 3, *[True] * 5, *[False] * 3]
    blue = [count_pixels(frame.image, BLUE) for frame in frames]
    assert blue[0] == blue[1] == blue[-1] == 0
    assert 0 < blue[2] < blue[8]
    assert frames[-1].ms == max(frame.ms for frame in frames)


def test_text_is_shown_as_long_as_it_takes_to_read(traces, tmp_path):
    trace = traces["zoom"]
    long = " ".join(["I look at the disc in the upper left."] * 3)
    box = Box(0.125, 0.15, 0.375, 0.45)
    longer = trace.model_copy(update={"turns": (zoom(2, box, thought=long), trace.turns[1])})
    short_ms, long_ms = (draw_frames(one, 480)[0][1].ms for one in (trace, longer))
    assert long_ms == reading_ms(long) > short_ms


def test_the_gif_has_all_frames_with_their_durations(traces, tmp_path):
    trace = traces["zoom into zoom"]
    frames, _ = draw_frames(trace, 960)
    written = trace.save_animation(tmp_path / "a.gif")
    with Image.open(written.out) as image:
        found = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
        assert sum(found) == pytest.approx(sum(frame.ms for frame in frames), abs=10 * len(frames))
        assert len(found) == len(frames)
        assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.medium
def test_a_gif_of_noise_is_narrower_to_stay_small(tmp_path):
    path = tmp_path / "noise.png"
    Image.effect_noise((960, 720), 90).convert("RGB").save(path)
    boxes = [Box(0.1 * n, 0.1, 0.1 * n + 0.3, 0.4) for n in range(4)]
    turns = [zoom(n + 2, box) for n, box in enumerate(boxes)]
    written = picture_trace(path, *turns, answer("6")).save_animation(tmp_path / "a.gif")
    with Image.open(written.out) as image:
        assert 480 <= image.width < 960


# --- files ---


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.html", ".png", "a.gif"])
def test_a_wrong_suffix_lists_the_right_ones(traces, tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png or \.webp or \.jpg or \.jpeg"):
        traces["zoom"].save_strip(tmp_path / name)
    with pytest.raises(UsageError, match=r"\.gif or \.webp"):
        traces["zoom"].save_animation(tmp_path / name.replace(".gif", ".png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_path_that_cannot_be_written_is_one_error_and_leaves_nothing(traces, tmp_path, name):
    save = traces["zoom"].save_animation if name.endswith("gif") else traces["zoom"].save_strip
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        save(tmp_path / "file" / name)
    with full_disk(1000), pytest.raises(OutputError, match="too large"):
        save(tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
