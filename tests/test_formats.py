"""Export of traces to other formats, and import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixel_reasoner.data.check import find_problems
from pixel_reasoner.data.formats import export_message_list, export_trl, import_message_list
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.dialects import PIXEL_REASONER
from pixel_reasoner.errors import InputError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.schema.trace import save_traces
from pixel_reasoner.sources.rows import SkippedRow


def make(out: Path, dialect=PIXEL_REASONER) -> Path:
    settings = SynthSettings(
        source="pixelworld",
        count=12,
        families=("attribute", "video"),
        dialect=dialect.name,
        budgets=dialect.budgets,
        refused_share=0.0,
    )
    synthesize(settings, scene_units(settings), out)
    return out


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Path]:
    """A run and its export."""
    folder = tmp_path_factory.mktemp("formats")
    synth, out = make(folder / "synth"), folder / "out"
    assert export_message_list(synth, out) == 12
    return synth, out


def test_exported_rows_have_the_format_of_the_upstream_data(exported):
    _, out = exported
    rows = json.loads((out / "data.json").read_text())
    assert len(rows) == 12
    for row in rows:
        system, user, *rest = row["message_list"]
        assert system["role"] == "system"
        assert "crop_image_normalized" in system["content"][0]["text"]
        medium = user["content"][0]
        paths = medium.get("video") or [medium["image"]]
        assert len(paths) == (16 if "video" in medium else 1)
        assert all((out / path).exists() for path in paths)
        assert [message["role"] for message in rest[::2]] == ["assistant"] * len(rest[::2])
        assert "\\boxed{" in rest[-1]["content"][0]["text"]
        assert all("type" not in part for message in rest for part in message["content"])


def test_an_export_is_imported_with_executed_calls(exported):
    synth, out = exported
    traces = list(import_message_list(out / "data.json"))
    for before, after in zip(load_run(synth), traces, strict=True):
        assert [turn.text for turn in after.turns] == [turn.text for turn in before.turns]
        assert [turn.call for turn in after.turns] == [turn.call for turn in before.turns]
        assert after.answer == before.answer
        assert after.question.text == before.question.text
        assert not [p for p in find_problems(after) if p.check != "evidence"]


@pytest.mark.parametrize("damage", ["box", "medium", "answer", "keys", "more"])
def test_an_invalid_row_is_dropped_with_its_reason_and_others_are_imported(
    exported, tmp_path, damage
):
    _, out = exported
    rows = json.loads((out / "data.json").read_text())
    with_calls = [row for row in rows if len(row["message_list"]) > 3]
    bad = json.loads(json.dumps(with_calls[0]))
    messages = bad["message_list"]
    if damage == "box":
        messages[2]["content"][0]["text"] = (
            'Look.\n<tool_call>\n{"name": "crop_image_normalized", "arguments": '
            '{"bbox_2d": [0.9, 0.1, 0.2, 0.3], "target_image": 1}}\n</tool_call>'
        )
    elif damage == "medium":
        messages[1]["content"][0] = {"image": "gone.png"}
    elif damage == "answer":
        messages[-1]["content"][0]["text"] = "I do not know."
    elif damage == "keys":
        bad = {"messages": messages}
    else:
        messages.append({"role": "assistant", "content": [{"text": "And more."}]})
    path = out / f"{damage}.json"
    path.write_text(json.dumps([rows[0], bad, rows[1]]))
    first, dropped, last = import_message_list(path)
    assert isinstance(dropped, SkippedRow)
    assert dropped.where == f"{damage}-2"
    assert first.stop == last.stop


@pytest.mark.extras
@pytest.mark.parametrize("write", [export_trl, export_message_list])
def test_an_export_of_an_unreadable_run_is_one_error(tmp_path, write):
    with pytest.raises(InputError, match="No such file"):
        write(tmp_path / "gone", tmp_path / "out")
    (tmp_path / "traces.jsonl").write_text("no trace\n")
    with pytest.raises(InputError, match="line 1"):
        write(tmp_path, tmp_path / "out")


def test_traces_of_another_dialect_are_not_exported(tmp_path):
    from pixel_reasoner.dialects import COMPACT

    with pytest.raises(InputError, match="--model pixel_reasoner"):
        export_message_list(make(tmp_path / "synth", COMPACT), tmp_path / "out")
    assert not (tmp_path / "out" / "data.json").exists()


@pytest.mark.medium
def test_an_export_writes_only_inside_its_folder_for_any_id(exported, tmp_path):
    synth, _ = exported
    ids = ["../../../escaped", "/tmp/escaped", "a/b", "..", "nul\x00", "same", "same "]
    traces = zip(ids, load_run(synth), strict=False)
    renamed = [
        one.model_copy(update={"question": one.question.model_copy(update={"id": name})})
        for name, one in traces
    ]
    save_traces(renamed, synth.parent / "hostile.jsonl")
    out = tmp_path / "deep" / "down" / "out"
    assert export_message_list(synth.parent / "hostile.jsonl", out) == len(ids)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(out) for path in files)
    assert len(list((out / "images").iterdir())) == len(ids)
    assert len(list(import_message_list(out / "data.json"))) == len(ids)
