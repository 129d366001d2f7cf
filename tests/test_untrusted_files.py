"""Untrusted files of runs and models: a one-line error for every invalid value."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.errors import InputError, ModelError
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.reports.build import write_run_report
from pixel_reasoner.reports.summary import RunSummary, read_summary
from pixel_reasoner.runs.folder import run_settings
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.trace import Picture, StopReason, Trace, Turn, load_traces, save_traces

HUGE = 10**400
TRACE = Trace(
    question=Question(id="q", text="?", media=(MediaItem(kind="image", path="a.png"),)),
    pictures=(Picture(number=1, medium=0, source_px=(9, 9), seen_px=(9, 9)),),
    turns=(Turn(text="x", token_ids=[1, 2], logprobs=[-0.5, -1.0]),),
    stop=StopReason.ANSWERED,
)
BUDGET = {"min_px": 1, "max_px": 9}
BUDGETS = dict.fromkeys(("picture", "crop", "frame", "selected_frame"), BUDGET) | {"multiple": 1}


def changed(*path: object, value: object) -> str:
    """Return a line of the trace with one changed value."""
    fields = json.loads(TRACE.to_line())
    place = fields
    for part in path[:-1]:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    place[path[-1]] = value
    return json.dumps(fields)


def bad_budget(**fields: object) -> str:
    return changed("settings", "budgets", value={**BUDGETS, "picture": {**BUDGET, **fields}})


PICTURE = ("pictures", 0)
BAD_LINES = {
    "text as token ids": changed("turns", 0, "token_ids", value="abc"),
    "token ids of text": changed("turns", 0, "token_ids", value=["a"]),
    "large token ids": changed("turns", 0, "token_ids", value=[2**40]),
    "negative token ids": changed("turns", 0, "token_ids", value=[-1]),
    "null logprobs": changed("turns", 0, "logprobs", value=[None]),
    "a number as logprobs": changed("turns", 0, "logprobs", value=3),
    "huge logprobs": changed("turns", 0, "logprobs", value=[HUGE]),
    "no size": changed(*PICTURE, "source_px", value=[0, 9]),
    "a negative size": changed(*PICTURE, "seen_px", value=[-5, 9]),
    "a large size": changed(*PICTURE, "seen_px", value=[2**19, 2**19]),
    "a size of text": changed(*PICTURE, "seen_px", value="ab"),
    "a 400-digit size": changed(*PICTURE, "seen_px", value=[HUGE, 1]),
    "an inverted box": changed(*PICTURE, "box", value=[0.5, 0, 0.1, 1]),
    "an empty box": changed(*PICTURE, "box", value=[0, 0, 0, 0]),
    "a 400-digit box": changed(*PICTURE, "box", value=[0, 0, HUGE, 1]),
    "a box of three": changed(*PICTURE, "box", value=[0, 0, 1]),
    "a box of nan": changed(*PICTURE, "box", value=[float("nan"), 0, 1, 1]),
    "evidence elsewhere": changed("question", "evidence", value={"boxes": [[0, 0, 2, 2]]}),
    "an endless time": changed(*PICTURE, "time_s", value=float("inf")),
    "endless seconds": changed("seconds", value=float("nan")),
    "a picture before the first": changed(*PICTURE, "number", value=0),
    "a medium before the first": changed(*PICTURE, "medium", value=-1),
    "a negative budget": bad_budget(min_px=-1),
    "no budget": bad_budget(max_px=0),
    "a large budget": bad_budget(min_px=10**12),
    "budgets of text": changed("settings", "budgets", value="large"),
    "a multiple of nothing": changed("settings", "budgets", value={**BUDGETS, "multiple": 0}),
    "half a surrogate": TRACE.to_line().replace('"x"', '"\\ud800"'),
    "half a surrogate, version 1": json.dumps({"question": {"id": "q", "text": "\ud800", "media": []}, "stop": "answered"}),
    "deep JSON": "[" * 10_000,
    "deep JSON in a call": changed("turns", 0, "parts", value=0).replace(
        '"parts": 0', '"parts": [{"name": "a", "arguments": {"a": ' + "[" * 10_000 + "]" * 10_000 + "}}]"
    ),
    "deep settings": changed("settings", value=0).replace('"settings": 0', '"settings": ' + '{"a":' * 10_000 + "1" + "}" * 10_000),
    "an unknown name as long as a book": changed("a" * 100_000, value=1),
    "a newer version": json.dumps({"schema_version": 99}),
    "a version of text": json.dumps({"schema_version": "<script>"}),
    "no object": "3",
    "no JSON": "{",
    "NUL": "\0",
}  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_an_invalid_line_is_one_short_error_with_its_number(tmp_path, line):
    good = TRACE.to_line()
    (tmp_path / "traces.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match="line 2") as error:
        list(load_traces(tmp_path / "traces.jsonl"))
    assert len(str(error.value)) < 1000
    assert "\n" not in str(error.value)


def test_a_serialized_trace_is_parsed_unchanged(tmp_path):
    (tmp_path / "traces.jsonl").write_text("\ufeff" + TRACE.to_line() + "\n", encoding="utf-8")
    assert list(load_traces(tmp_path / "traces.jsonl")) == [TRACE]


def test_a_picture_with_an_unknown_transform_is_not_shown_with_a_reason(tmp_path, photo):
    sizes = {"source_px": (640, 480), "seen_px": (64, 48)}
    for transform in (
        {"name": "melt"},
        {"name": "rotate"},
        {"name": "flip", "arguments": {"a": 1}},
    ):
        picture = Picture.model_validate(
            {"number": 1, "medium": 0, "transforms": [transform], **sizes}
        )
        media = (MediaItem(kind="image", path=photo.name),)
        question = TRACE.question.model_copy(update={"media": media})
        save_traces(
            [TRACE.model_copy(update={"question": question, "pictures": (picture,)})],
            tmp_path / "traces.jsonl",
        )
        written = write_run_report([tmp_path], tmp_path / "page.html")
        assert [transform["name"] in why for why in written.unshown] == [True]


# --- settings and summaries ---

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just("<img src=x onerror=alert(1)>"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "count", "value", "<b>"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
NAMES = [field.alias or name for name, field in RunSummary.model_fields.items()]


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(NAMES), JSON_VALUES, min_size=1, max_size=4))
def test_a_summary_of_any_values_is_one_error_or_a_page_without_code(tmp_path_factory, summary):
    folder = tmp_path_factory.mktemp("summary")
    save_traces([TRACE], folder / "traces.jsonl")
    (folder / "summary.json").write_text(json.dumps(summary))
    page = folder / "page.html"
    with contextlib.suppress(InputError):
        write_run_report([folder], page, references=True, tables=[folder / "t.md"])
    assert not page.exists() or "<img src=x" not in page.read_text()


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", "[" * 10_000, '{"count": -1}', '{"accuracy": "high"}', '{"count": 1e999}'],
)
def test_a_broken_summary_is_one_error(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InputError, match=r"summary\.json"):
        read_summary(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "[" * 10_000,
        '{"budgets": 3}',
        '{"limits": {"max_turns": "many"}}',
        '{"model": {"parameters": 1e999}}',
    ],
)
def test_broken_settings_are_one_error(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InputError):
        run_settings(tmp_path)


# --- models ---


@pytest.fixture
def model(tmp_path) -> Path:
    """The small files of a model."""
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED_MODELS["tiny"], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("value", ['"large"', "[1]", "-4", "true", "{}", "1" + "0" * 400])
def test_an_image_processor_with_other_limits_is_one_error(model, name, value):
    text = f'{{"min_pixels": {value}, "max_pixels": 9, "merge_size": 2}}'
    for path in model.glob("*process*.json"):
        path.unlink()
    (model / name).write_text(text if name.startswith("pre") else f'{{"image_processor": {text}}}')
    if value == "{}" or len(value) > 9:  # missing, or not a JSON file that is read
        folder_settings(model)
    else:
        with pytest.raises(ModelError, match=name):
            folder_settings(model)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 10_000, '{"size": 224}', '{"size": "large"}', '{"size": [1]}', '"x"'],
)
def test_an_image_processor_of_another_form_is_ignored(model, text):
    (model / "preprocessor_config.json").write_text(text)
    folder_settings(model)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 10_000,
        '{"dialect": 3}',
        '{"budgets": {"picture": 4}}',
        '{"note": "\\ud800"}',
        '{"code": "x"}',
    ],
)
def test_broken_settings_of_a_model_are_one_error(model, text):
    (model / "pixel_reasoner.json").write_text(text)
    with pytest.raises(ModelError, match=r"pixel_reasoner\.json") as error:
        folder_settings(model)
    assert "\n" not in str(error.value)


# --- checkpoints ---


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with three checkpoints."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    for step in (5, 10, 20):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        save_file({"weight": torch.zeros(64)}, folder / "model.safetensors")
        torch.save({"step": step}, folder / "optimizer.pt")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (tmp_path / "out" / "checkpoint-old").mkdir()
    return tmp_path / "out"


def cut(path: Path, part: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.98])
def test_an_incomplete_checkpoint_is_named_and_the_previous_one_is_used(run, caplog, name, part):
    from pixel_reasoner.train.weights import last_checkpoint

    assert last_checkpoint(run) == str(run / "checkpoint-20")
    cut(run / "checkpoint-20" / name, part)
    with caplog.at_level(logging.WARNING):
        assert last_checkpoint(run) == str(run / "checkpoint-10")
    (record,) = caplog.records
    assert "checkpoint-20" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_run_without_a_complete_checkpoint_restarts(run):
    from pixel_reasoner.train.weights import last_checkpoint

    for path in run.glob("checkpoint-*/model.safetensors"):
        cut(path)
    assert last_checkpoint(run) is None


def test_code_of_a_model_folder_is_never_trusted():
    source = Path(__file__).parents[1] / "src"
    calls = (
        "AutoProcessor.from_pretrained(",
        "AutoConfig.from_pretrained(",
        "ImageTextToText.from_pretrained(",
    )
    for path in source.rglob("*.py"):
        text = path.read_text()
        for call in calls:
            for part in text.split(call)[1:]:
                assert "trust_remote_code=False" in part[:200], path
        assert "trust_remote_code=True" not in text
        for part in text.split("torch.load(")[1:]:
            assert "weights_only=True" in part[:80], path
        assert "weights_only=False" not in text
