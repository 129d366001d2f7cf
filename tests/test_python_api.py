"""Python API of the package."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

import pixel_reasoner as pr
from chat_server import served
from pixel_reasoner.media.inputs import media_items

CALL = '<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0.25, 0.25, 0.75, 0.75], "target_image": 1}}</tool_call>'
SCRIPT = [f"I look. {CALL}", r"It is red. \boxed{red}"]


@pytest.fixture
def model():
    with pr.Model(pr.ScriptedModel(SCRIPT)) as model:
        yield model


def picture(colour="red", size=(400, 300)) -> Image.Image:
    return Image.new("RGB", size, colour)


# --- exports ---


@pytest.mark.parametrize("name", pr.__all__)
def test_every_exported_name_exists(name):
    assert getattr(pr, name) is not None
    assert name in dir(pr)


@pytest.mark.parametrize(
    "name", [name for name in pr.__all__ if inspect.isroutine(getattr(pr, name))]
)
def test_every_public_function_states_its_arguments_and_has_an_example(name):
    function = getattr(pr, name)
    text = inspect.getdoc(function)
    parameters = [
        one
        for one in inspect.signature(function).parameters
        if one not in ("progress", "options", "fields")
    ]
    for parameter in parameters:
        assert f"{parameter}:" in text, f"{name} does not say what {parameter} is"
    assert ">>>" in text, f"{name} has no example"


@pytest.mark.parametrize(
    ("used", "absent"),
    [("pr", {"av", "numpy", "PIL", "pydantic"}), ("pr.load", {"torch", "transformers"})],
)
def test_a_use_of_the_package_loads_no_more_than_it_needs(used, absent):
    code = f"import pixel_reasoner as pr, sys; {used}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pr.no_such_name


# --- media ---


def test_media_are_accepted_in_all_common_forms(model, tmp_path):
    path = tmp_path / "a.png"
    picture().save(path)
    array = np.full((300, 400, 3), (255, 0, 0), np.uint8)
    for medium in (
        path,
        str(path),
        picture(),
        array,
        array[..., 0],
        path.read_bytes(),
        [path, array],
    ):
        trace = model.ask("Which colour?", medium)
        assert trace.answer == "red"
        assert trace.pictures[0].source_px == (400, 300)


def test_a_video_and_a_folder_are_recognised(clip):
    assert [one.kind for one in media_items([clip, clip.parent])] == ["video", "frames"]
    assert media_items(Path(clip).read_bytes())[0].kind == "video"


@given(
    mode=st.sampled_from(
        ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV", "LAB", "I", "PA", "La"]
    ),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
)
def test_an_image_of_any_mode_keeps_its_size(mode, width, height):
    try:
        (item,) = media_items(Image.new(mode, (width, height)))
    except pr.InputError:
        assert mode in {"La", "I", "LAB", "PA"}
        return
    with Image.open(item.path) as image:
        assert image.size == (width, height)


def test_the_same_pixels_are_stored_once():
    one, other = media_items([picture("blue"), picture("blue")])
    assert one == other


@pytest.mark.parametrize(
    "medium",
    [
        3,
        object(),
        "no/such/file.png",
        "https://example.org/a.png",
        b"",
        b"no picture",
        Image.new("F", (4, 4)),
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
        [None],
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_invalid_media_item_is_one_error(model, medium):
    with pytest.raises(pr.InputError, match="Fix: "):
        model.ask("Which colour?", medium)


@pytest.mark.parametrize(
    ("array", "fix"),
    [
        (np.full((4, 4, 3), 0.5), "0 to 1 with `(a * 255).astype('uint8')`"),
        (np.full((4, 4), 200.0), "0 to 255 with `a.astype('uint8')`"),
        (np.full((4, 4), 200), "0 to 255 with `a.astype('uint8')`"),
        (np.full((4, 4), 4000), "scale the values, which are from 4000 to 4000"),
        (np.full((4, 4), -0.5), "scale the values, which are from -0.5 to -0.5"),
        (np.full((4, 4), np.nan), "with NaN or infinity. Fix: replace these values"),
        (np.ones((4, 4), bool), "`a.astype('uint8') * 255`"),
        (np.full((4, 4), "a"), "an array of numbers"),
        (np.zeros((50, 50, 5), np.uint8), "3 of the 5 channels"),
        (np.zeros((50, 50, 1), np.uint8), "`a[..., 0]`"),
        (np.zeros((3, 50, 50), np.uint8), "put channels last"),
    ],
    ids=lambda one: str(getattr(one, "shape", "")) + str(getattr(one, "dtype", "")),
)
def test_the_fix_of_an_array_fits_its_values_and_shape(model, array, fix):
    with pytest.raises(pr.InputError) as raised:
        model.ask("Which colour?", array)
    assert fix in str(raised.value)


def test_bytes_of_another_kind_are_named_without_a_temporary_path(model):
    with pytest.raises(pr.InputError, match="3 bytes: neither a picture nor a video") as raised:
        model.ask("Which colour?", b"abc")
    assert "/" not in str(raised.value)


# --- questions ---


@pytest.mark.parametrize("media", [None, [], ()])
def test_a_text_without_a_picture_is_refused_as_on_the_command_line(model, media):
    for ask in (model.ask, lambda *asked: asyncio.run(model.ask_async(*asked))):
        with pytest.raises(pr.UsageError, match="pass a picture or video"):
            ask("Which colour?", media)
    assert model.ask(pr.Question(id="1", text="Which colour?", media=())).turns


def test_options_are_recorded_in_the_settings_of_the_trace(model):
    trace = model.ask(
        "Which colour?", picture(), max_turns=2, temperature=0.5, seed=3, max_new_tokens=9
    )
    assert trace.settings.limits.max_turns == 2
    assert trace.settings.sampling == pr.SamplingParams(temperature=0.5, seed=3, max_new_tokens=9)
    assert model.ask("Which colour?", picture(), operations=False).settings.operations == ()
    assert model.ask("Which colour?", picture(), operations=["zoom_in"]).settings.operations == (
        "zoom_in",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"temprature": 1.0},
        {"max_turns": 0},
        {"max_turns": "many"},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"operations": ["zoom"]},
        {"operations": "zoom_in"},
    ],
    ids=str,
)
def test_an_invalid_option_is_one_error(model, options):
    with pytest.raises(pr.UsageError, match="Fix: "):
        model.ask("Which colour?", picture(), **options)


@pytest.mark.parametrize("question", ["", "  ", None, 7])
def test_a_question_that_is_no_text_is_one_error(model, question):
    with pytest.raises(pr.UsageError, match="expected a question"):
        model.ask(question)


def test_a_question_has_its_media(model):
    with pytest.raises(pr.UsageError, match="put the media into the Question"):
        model.ask(pr.Question(id="1", text="?", media=()), picture())


def test_a_closed_model_is_an_error(model):
    model.close()
    model.close()
    for asked in (
        lambda: model.ask("?", picture()),
        lambda: list(model.ask_many([])),
        lambda: model.submit(None),
    ):
        with pytest.raises(pr.UsageError, match="load it again"):
            asked()
    assert "closed" in repr(model)


def test_many_questions_end_in_any_order(model):
    questions = [
        pr.Question(id=str(n), text="Which colour?", media=media_items(picture())) for n in range(9)
    ]
    for traces in (
        model.ask_many(questions, batch_size=4, max_turns=3),
        pr.ask_many(questions, model),
    ):
        assert sorted(trace.question.id for trace in traces) == [str(n) for n in range(9)]


def test_questions_in_an_event_loop_give_the_same_answers(model):
    async def ask() -> list[str | None]:
        asked = (model.ask_async("Which colour?", picture(), max_turns=3) for _ in range(5))
        return [trace.answer for trace in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == ["red"] * 5


def test_events_end_with_the_trace(model):
    async def listen() -> list[pr.Event]:
        return [event async for event in model.events("Which colour?", picture())]

    events = asyncio.run(listen())
    assert isinstance(events[-1], pr.Finished)
    assert [type(one) for one in events if isinstance(one, pr.CallParsed | pr.Observed)] == [
        pr.CallParsed,
        pr.Observed,
    ]
    assert (
        "".join(e.text for e in events if isinstance(e, pr.GeneratedText) and e.turn == 1)
        == SCRIPT[1]
    )


def test_leaving_the_events_cancels_the_question(model):
    async def leave() -> None:
        events = model.events("Which colour?", picture())
        async for _ in events:
            break
        await events.aclose()
        assert (await model.ask_async("Which colour?", picture())).answer == "red"

    asyncio.run(leave())


# --- traces ---


def test_a_trace_has_steps_crops_and_a_page(model, monkeypatch):
    trace = model.ask("Which colour?", picture())
    assert [(step.turn, step.text, bool(step.call)) for step in trace.steps] == [
        (0, "I look.", False),
        (0, "", True),
        (1, r"It is red. \boxed{red}", False),
    ]
    assert trace.steps[1].observation.error is None
    (crop,) = trace.crops()
    assert crop.size == trace.steps[1].observation.pictures[0].seen_px
    assert trace.crops(full_resolution=True)[0].size == (200, 150)
    assert trace._repr_html_().startswith("<iframe")
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = trace.show()
    assert opened == [path.as_uri()]
    assert "Which colour?" in path.read_text()


def test_a_malformed_call_is_a_step(model):
    broken = pr.Model(pr.ScriptedModel(["<tool_call>{</tool_call>", r"\boxed{red}"]))
    steps = broken.ask("Which colour?", picture()).steps
    assert [step.observation.error.value for step in steps if step.observation] == [
        "malformed_call"
    ]


# --- servers ---


def test_the_only_model_of_a_server_needs_no_name():
    scripted = pr.ScriptedModel([r"\boxed{red}"])
    with (
        served(scripted) as server,
        pr.load(endpoint=server.url, dialect="compact", timeout_s=20) as model,
    ):
        assert model.ask("Which colour?", picture()).answer == "red"
        with pytest.raises(pr.UsageError, match="an option of a model"):
            pr.load(endpoint=server.url, dialekt="compact")


# --- replies ---


def test_replies_of_other_models_are_parsed_and_graded():
    question = pr.Question(
        id="1",
        text="?",
        media=(),
        answer=("B",),
        answer_type="choice",
        options={"A": "red", "B": "blue"},
    )
    assert pr.grade(question, "The answer is (B).").outcome is pr.Outcome.CORRECT
    assert pr.grade(question, "Nothing.").outcome is pr.Outcome.UNPARSED
    assert pr.grade(question.model_copy(update={"answer": ()}), "B") is None
    assert pr.extract_answer("So it is blue.", "choice", {"A": "red", "B": "blue"}) == "B"
    assert pr.parse_reply("<tool_call>{</tool_call>", "compact").errors


@pytest.mark.parametrize(
    "call",
    [
        lambda: pr.extract_answer("A", "letter"),
        lambda: pr.extract_answer("A", "choice"),
        lambda: pr.extract_answer("A", "choice", ["x"] * 27),
        lambda: pr.grade(pr.Question(id="1", text="?", media=(), answer=("4",)), "4", "strict"),
        lambda: pr.parse_reply("A", "no_such_dialect"),
        lambda: pr.load("no/such/folder"),
    ],
)
def test_the_error_of_an_unknown_value_lists_the_allowed_ones(call):
    with pytest.raises(pr.PixelReasonerError, match="Fix: "):
        call()
