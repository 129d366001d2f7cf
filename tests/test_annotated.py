"""Scripted models of PixelWorld: they see what a model sees, and answer from the annotation."""

from __future__ import annotations

import pytest
from PIL import Image

from pixel_reasoner import api
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.workflows.annotated import boxes_of, moments_model, parts_model
from pixel_reasoner.world.moments import read_moments
from pixel_reasoner.world.moments.table import ClipTable
from pixel_reasoner.world.parts import read_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    out = tmp_path_factory.mktemp("parts")
    spec = api.PartsSpec("plate,board", 320, references=1, validation=0, test=10, unaligned=2)
    api.render_parts(spec, out)
    return out


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    out = tmp_path_factory.mktemp("moments")
    api.render_moments(api.MomentsSpec(count=2, duration_s=8, rates="25,variable", seed=5), out)
    return out


def about(folder, row, text):
    item = MediaItem(kind="image", path=str(folder / row.image))
    return Question(id=row.id, text=text, media=(item,))


@pytest.mark.parametrize("dialect", ["compact", "pixel_reasoner"])
def test_a_part_is_inspected_by_its_annotation(parts, dialect):
    rows = {row.id: row for row in read_parts(parts)}
    questions = [about(parts, row, "Is there a defect?") for row in rows.values()]
    traces = list(api.ask_many(questions, parts_model(parts, dialect=dialect)))
    assert len(traces) == len(rows)
    for trace in traces:
        row = rows[trace.question.id]
        assert not trace.rejected
        if row.expected != "defect":
            assert trace.answer == row.expected
            continue
        [defect] = row.defects
        assert trace.answer == f"2: {defect.defect}"
        [crop] = trace.executed[0].pictures
        assert crop.box.intersection(defect.box) == pytest.approx(defect.box.area, rel=0.05)


def test_each_proposal_gets_a_class_or_none(parts):
    row = next(row for row in read_parts(parts) if row.defects)
    x1, y1, x2, y2 = (100 * value for value in row.defects[0].box)
    text = (
        "1: picture 2, from 0.0 % to 0.5 % of the width and from 0.0 % to 0.5 % of the height\n"
        f"2: picture 3, from {x1:.1f} % to {x2:.1f} % of the width and "
        f"from {y1:.1f} % to {y2:.1f} % of the height\n"
    )
    trace = api.ask(about(parts, row, text), parts_model(parts, looks=False))
    assert trace.answer == f"1: none; 2: {row.defects[0].defect}"
    assert len(trace.turns) == 1


def test_an_unknown_picture_is_unsure(parts, clips, tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (640, 480), "grey").save(path)
    item = MediaItem(kind="image", path=str(path))
    question = Question(id="1", text="A: a red ball", media=(item,))
    for model in (parts_model(parts), moments_model(clips)):
        assert api.ask(question, model).answer == "unsure"


def test_another_form_of_the_answer_is_a_function(parts):
    row = next(row for row in read_parts(parts) if row.defects)
    model = parts_model(parts, answer=lambda row, prompt: f"{row.expected} {len(prompt.pictures)}")
    assert api.ask(about(parts, row, "Defects?"), model).answer == "defect 2"


@pytest.mark.parametrize("looks", [False, True])
def test_frames_that_show_a_description_are_named(clips, looks):
    model = moments_model(clips, looks=looks)
    for row in read_moments(clips):
        lines = "\n".join(f"{chr(65 + n)}: {one.text}" for n, one in enumerate(row.queries))
        item = MediaItem(kind="video", path=str(clips / row.path))
        trace = api.ask(Question(id=row.id, text=f"Which frames?\n{lines}", media=(item,)), model)
        assert not trace.rejected
        assert trace.answer is not None
        answers = dict(entry.split(": ") for entry in trace.answer.split("; "))
        start = float(row.time(0))
        times = [start + picture.time_s for picture in trace.pictures]
        for number, query in enumerate(row.queries):
            shown = [
                n
                for n, time in enumerate(times, start=1)
                if any(span.start_s - 1e-4 <= time < span.end_s - 1e-4 for span in query.spans)
            ]
            assert numbers(answers[chr(65 + number)]) == shown
        if looks and any(answer != "none" for answer in answers.values()):
            assert trace.executed


def numbers(text):
    found = []
    for part in text.replace("none", "").split(", "):
        if part:
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    return found


def test_boxes_of_events_and_target_are_given_in_one_frame(clips, tmp_path):
    model, table = moments_model(clips), ClipTable(clips)
    from pixel_reasoner.world.moments import make_clip
    from pixel_reasoner.world.moments.draw import Painter

    for number, row in enumerate(table.rows):
        painter = Painter(make_clip(row.params, "test", 5, number))
        queries = [query for query in row.queries if query.spans]
        query = queries[0]
        frame = query.spans[0].first_frame + 1
        path = tmp_path / f"{number}.png"
        picture = Image.fromarray(painter.frame(frame))
        picture.save(path)
        item = MediaItem(kind="image", path=str(path))
        text = f"Where in this frame is this: {query.text}? Answer with its box."
        trace = api.ask(Question(id="1", text=text, media=(item,)), model)
        box = boxes_of(table.recognise(picture), query.text)[0]
        expected = [round(1000 * v / side) for v, side in zip(box, (640, 360) * 2, strict=True)]
        assert list(map(int, trace.answer.split("; ")[0].split())) == expected
        assert boxes_of(table.recognise(picture), "the face") == (
            painter.target_boxes(frame) if row.target.kind == "face" else ()
        )
