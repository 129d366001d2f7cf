"""Runs of an inspection: broken files are rows, killed runs resume, answers of a model decide, corrections become rows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from cli_fixture import assert_refused
from inspection_fixture import mask, other_part, plate, save, write_data_set
from page_fixture import report_of
from pixel_reasoner import inspection_api
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports.schema import Word
from pixel_reasoner.workflows.inspection import engine
from pixel_reasoner.workflows.inspection.engine import InspectionRun
from pixel_reasoner.workflows.inspection.layouts import read_dataset
from pixel_reasoner.workflows.inspection.spec import Decision, DefectClass, InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import Verdict
from pixel_reasoner.workflows.inspection.workflow import (
    choose_run_thresholds,
    review_run,
    run_inspection,
)

SPEC = InspectionSpec(product="plate", defects={"hole": DefectClass(severity="critical")})


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    for number in range(3):
        save(plate(number), folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    return write_data_set(tmp_path_factory.mktemp("plates") / "plate")


def inspect(data, out, golden=None, model=None, spec=SPEC, **more):
    run = InspectionRun(data=(data,), out=out, reference=golden, spec=spec, **more)
    return run_inspection(run, model, report=False)


def by_id(done):
    return {row.id: row for row in done.rows}


def answering(answer):
    """Model that answers for every number of a question; `answer` gets the number."""

    def script(conversation):
        text = json.dumps(conversation[-1]["content"], default=str)
        numbers = [int(one) for one in re.findall(r"(\d+): picture \d+, from", text)]
        return f"I looked. \\boxed{{{'; '.join(f'{n}: {answer(n)}' for n in numbers)}}}"

    return ScriptedModel(script)


# --- bad input ---


def test_each_bad_file_is_one_row_and_the_rest_goes_on(tmp_path, golden):
    photos = tmp_path / "photos"
    for number in range(6):
        save(plate(10 + number, defect=number % 2 == 1), photos / f"{number}.png")
    save(other_part(), photos / "other.png")
    shutil.copy(photos / "1.png", photos / "copy.png")
    (photos / "empty.png").write_bytes(b"")
    (photos / "text.jpg").write_text("no picture")
    content = (photos / "0.png").read_bytes()
    (photos / "cut.png").write_bytes(content[: len(content) // 2])
    done = inspect(photos, tmp_path / "run", golden)
    rows = by_id(done)
    assert {name for name, row in rows.items() if row.verdict is Verdict.ERROR} == {
        "empty.png",
        "text.jpg",
        "cut.png",
    }
    assert rows["other.png"].verdict is Verdict.UNSURE
    assert rows["other.png"].reason.startswith("not aligned")
    assert rows["copy.png"].duplicate_of == "1.png"
    assert [rows[f"{n}.png"].verdict.value for n in range(6)] == ["ok", "defect"] * 3
    assert done.summary["verdicts"] == {"ok": 3, "defect": 4, "unsure": 1, "error": 3}
    assert done.summary["duplicates"] == 1


def test_masks_and_classes_that_do_not_fit_are_notes(tmp_path):
    root = write_data_set(tmp_path / "plate", good=1, bad=3)
    save(mask(size=(100, 80)), root / "ground_truth/hole/000_mask.png")
    (root / "ground_truth/hole/001_mask.png").unlink()
    (root / "ground_truth/hole/002_mask.png").write_bytes(b"broken")
    done = inspect(root, tmp_path / "run", spec=InspectionSpec(defects={"dent": DefectClass()}))
    notes = "\n".join(done.summary["notes"])
    for words in ("mask has 100 x 80", "no mask", "mask cannot be read", "'hole'"):
        assert words in notes
    assert "aupro" not in done.summary["metrics"]
    assert done.summary["metrics"]["recall"]["hole"]["count"] == 3


def test_metrics_of_a_labelled_data_set(tmp_path, data_set):
    metrics = inspect(data_set, tmp_path / "run").summary["metrics"]
    assert metrics["image_auroc"] == 1.0
    assert metrics["aupro"] > 0.9
    assert metrics["overkill"]["of"] == metrics["miss"]["of"] == 3
    assert metrics["defects_with_box_iou_0.3"]["value"] == 1.0
    assert set(metrics["rejects_that_are_bad"]) == {
        "0.1% defective",
        "1.0% defective",
        "5.0% defective",
    }


def test_without_references_heat_maps_and_model_nothing_can_be_inspected(tmp_path, golden):
    photos = tmp_path / "photos"
    save(plate(1), photos / "a.png")
    with pytest.raises(UsageError, match="--reference"):
        inspect(photos, tmp_path / "run")
    with pytest.raises(InputError, match="golden"):
        inspect(photos, tmp_path / "run", tmp_path / "nothing")
    with pytest.raises(InputError, match="split train"):
        inspect(photos, tmp_path / "run", golden, split="train")
    assert not (tmp_path / "run").exists()


# --- resuming ---


def test_a_killed_run_continues_with_the_same_rows(tmp_path, golden, monkeypatch):
    photos = tmp_path / "photos"
    for number in range(5):
        save(plate(number + 30, defect=number == 2), photos / f"{number}.png")
    whole = inspect(photos, tmp_path / "whole", golden)
    examine, asked = engine.examine, []

    def dies(sample, how):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(sample.id)
        return examine(sample, how)

    monkeypatch.setattr(engine, "examine", dies)
    with pytest.raises(KeyboardInterrupt):
        inspect(photos, tmp_path / "run", golden, workers=1)
    with (tmp_path / "run" / "rows.jsonl").open("a") as file:
        file.write('{"id": "cut o')
    monkeypatch.setattr(
        engine, "examine", lambda sample, how: asked.append(sample.id) or examine(sample, how)
    )
    resumed = inspect(photos, tmp_path / "run", golden)
    assert len(asked) < 3 + 5 or len(set(asked)) == 5
    stable = {"audit": True}
    assert [one.model_dump(exclude=stable) for one in resumed.rows] == [
        one.model_dump(exclude=stable) for one in whole.rows
    ]
    with pytest.raises(UsageError):
        inspect(photos, tmp_path / "run", golden, spec=InspectionSpec(product="other"))


# --- a model ---


def test_the_model_names_a_class_or_rejects_each_proposal(tmp_path, golden):
    photos = tmp_path / "photos"
    save(plate(5, defect=True), photos / "bad.png")
    save(plate(6), photos / "good.png")
    accepted = by_id(inspect(photos, tmp_path / "a", golden, answering(lambda n: "hole")))
    assert accepted["bad.png"].verdict is Verdict.DEFECT
    assert accepted["bad.png"].severity == "critical"
    assert accepted["bad.png"].findings[0].reason == "I looked."
    assert (tmp_path / "a" / accepted["bad.png"].findings[0].crop).is_file()
    assert accepted["good.png"].verdict is Verdict.OK
    assert not accepted["good.png"].trace_ids
    rejected = by_id(inspect(photos, tmp_path / "b", golden, answering(lambda n: "none")))
    assert rejected["bad.png"].verdict is Verdict.OK
    assert rejected["bad.png"].audit.model_sha256


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("maybe", "no decision about 1"),
        ("1: rust", "'rust' is not in the specification"),
        ("unsure", "the model is unsure"),
    ],
)
def test_an_answer_that_is_not_understood_is_unsure(tmp_path, golden, reply, words):
    save(plate(5, defect=True), tmp_path / "photos" / "bad.png")
    model = ScriptedModel([f"\\boxed{{{reply}}}"])
    [row] = inspect(tmp_path / "photos", tmp_path / "run", golden, model).rows
    assert row.verdict is Verdict.UNSURE
    assert words in row.reason


def test_a_model_that_also_accepts_decoys_is_not_trusted(tmp_path, golden):
    save(plate(5, defect=True), tmp_path / "photos" / "bad.png")
    done = inspect(
        tmp_path / "photos", tmp_path / "run", golden, answering(lambda n: "hole"), decoys=1.0
    )
    [row] = done.rows
    assert row.verdict is Verdict.UNSURE
    assert row.num_decoys == row.num_accepted_decoys == len(row.proposals)
    assert done.summary["decoys_accepted"]["value"] == 1.0


def test_a_large_difference_that_the_model_rejects_can_be_unsure(tmp_path, golden):
    save(plate(5, defect=True), tmp_path / "photos" / "bad.png")
    spec = SPEC.model_copy(update={"decision": Decision(max_rejected_score=2.0)})
    [row] = inspect(
        tmp_path / "photos", tmp_path / "run", golden, answering(lambda n: "none"), spec
    ).rows
    assert row.verdict is Verdict.UNSURE
    assert "rejects a difference" in row.reason


def test_photos_without_references_are_asked_about_in_tiles(tmp_path):
    save(plate(5, defect=True).resize((1600, 1200)), tmp_path / "photos" / "bad.png")
    tiles = []

    def script(conversation):
        turn = sum(message["role"] == "assistant" for message in conversation)
        tiles.append(turn)
        if turn == 0:
            call = {
                "name": "zoom_in",
                "arguments": {"bbox_2d": [0.4, 0.4, 0.6, 0.6], "target_image": 1},
            }
            return f"<tool_call>{json.dumps(call)}</tool_call>"
        return r"\boxed{2: hole}"

    done = inspect(tmp_path / "photos", tmp_path / "run", None, ScriptedModel(script))
    [row] = done.rows
    assert row.verdict is Verdict.DEFECT
    assert tiles.count(0) == len(row.trace_ids) > 1
    assert len({one.box for one in row.findings}) == len(row.findings) > 1


def test_heat_maps_of_another_program_are_proposals(tmp_path):
    save(plate(5, defect=True), tmp_path / "photos" / "bad.png")
    values = np.zeros((90, 120), np.float32)
    values[50:53, 75:79] = 0.9
    (tmp_path / "maps").mkdir()
    Image.fromarray(values).save(tmp_path / "maps" / "bad.tiff")
    save(plate(6), tmp_path / "photos" / "no_map.png")
    done = inspect(
        tmp_path / "photos",
        tmp_path / "run",
        None,
        answering(lambda n: "hole"),
        heat_maps=tmp_path / "maps",
    )
    rows = by_id(done)
    assert rows["bad.png"].verdict is Verdict.DEFECT
    assert rows["bad.png"].findings[0].box.x1 == pytest.approx(300 / 480, abs=0.01)
    assert rows["no_map.png"].verdict is Verdict.ERROR


# --- parts, thresholds, review ---


def test_a_part_is_bad_if_one_of_its_photos_is(tmp_path, golden):
    for name, bad in (("S1_C1", False), ("S1_C2", True), ("S2_C1", False), ("S2_C2", False)):
        save(
            plate(7, defect=bad, shift=(int(name[1]), int(name[-1]))),
            tmp_path / "photos" / f"{name}.png",
        )
    for number in range(3):
        for view in ("C1", "C2"):
            save(plate(number), tmp_path / "golden" / f"{number}_{view}.png")
    done = inspect(tmp_path / "photos", tmp_path / "run", tmp_path / "golden")
    assert done.summary["parts"] == {"count": 2, "defect": 1, "ok": 1}


def test_thresholds_are_chosen_for_a_stated_miss_rate_and_keep_their_origin(tmp_path, data_set):
    run = InspectionRun(data=(data_set,), out=tmp_path / "run", spec=SPEC)
    chosen, path = choose_run_thresholds(run, 0.0)
    spec = inspection_api.read_spec(path).spec
    assert spec.decision == chosen.decision
    assert "3 defective, 3 good" in spec.decision.origin
    assert chosen.miss.hits == 0
    with pytest.raises(UsageError):
        choose_run_thresholds(run, 1.5)


def test_a_specification_with_chosen_thresholds_has_the_same_golden_pictures(tmp_path, run):
    root = write_data_set(tmp_path / "parts" / "plate", good=2, bad=2)
    photos = [root / "test", "--layout", "plain"]
    (tmp_path / "plate.toml").write_text('reference = "parts/plate/train/good"\n')
    spec = ("--spec", tmp_path / "plate.toml")
    code, _, error = run(
        "inspect", root, *spec, "--max-miss-rate", 0.05, "--out", tmp_path / "runs/thresholds"
    )
    assert code == 0
    assert "2 defective photos are too few for a miss rate of 5.0%" in error
    chosen = tmp_path / "runs/thresholds/inspect.toml"
    assert inspection_api.read_spec(chosen).reference.resolve() == root / "train" / "good"
    code, *_ = run(
        "inspect",
        *photos,
        "--spec",
        chosen,
        "--limit",
        1,
        "--export",
        "coco, csv",
        "--out",
        tmp_path / "runs/b",
    )
    assert code == 0
    assert {one.name for one in (tmp_path / "runs/b/exports").iterdir()} == {"coco", "csv"}


@pytest.mark.parametrize("is_given", [True, False])
def test_golden_pictures_among_the_photos_of_the_thresholds_are_a_warning(
    tmp_path, data_set, is_given
):
    folder = data_set / "train/good" if is_given else None
    for split, count in (("all", 3), ("test", 0)):
        run = InspectionRun(
            data=(data_set,), out=tmp_path / split, spec=SPEC, split=split, reference=folder
        )
        chosen, _ = choose_run_thresholds(run, 0.5)
        assert chosen.num_golden == count
        assert any("golden pictures" in one for one in chosen.warnings) == bool(count)


def test_photos_of_several_folders_have_different_ids(tmp_path, monkeypatch):
    for name in ("a/c/1.png", "b/c/1.png", "1.png", "2.png"):
        save(Image.new("RGB", (40, 30)), tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def ids(*names):
        run = InspectionRun(data=tuple(map(Path, names)), out=tmp_path / "run")
        return [one.id for one in engine.chosen_samples([read_dataset(p) for p in run.data], run)]

    assert ids("1.png", "2.png", "1.png") == ["1.png", "2.png"]
    assert ids("a", "b") == ["a/c/1.png", "b/c/1.png"]
    assert ids("a/c", "b/c") == ["a/c/1.png", "b/c/1.png"]


@pytest.mark.parametrize("name", ["anomaly", "Anomaly"])
def test_a_box_of_an_unknown_class_is_a_usable_correction(tmp_path, golden, name):
    save(plate(5, defect=True), tmp_path / "photos/1.png")
    out = tmp_path / "run"
    assert inspect(tmp_path / "photos", out, golden).count("defect") == 1
    corrections = {
        "images": [{"id": 1, "file_name": "1.png", "width": 480, "height": 360}],
        "categories": [{"id": 1, "name": name}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [300, 200, 18, 12]}],
    }
    (tmp_path / "c.json").write_text(json.dumps(corrections))
    assert review_run(tmp_path / "c.json", SPEC, out)[:3] == (1, 0, {})
    row = json.loads((out / "review/rows.jsonl").read_text())
    assert (row["answer"], row["findings"]) == (["anomaly"], ["an anomaly is visible here"])
    expected = out / "review/regression.jsonl"
    run = InspectionRun(data=(tmp_path / "photos",), out=out, reference=golden, spec=SPEC)
    assert not run_inspection(run, report=False, expected=expected).mismatches
    named = tmp_path / "named"
    run = InspectionRun(data=(tmp_path / "photos",), out=named, reference=golden, spec=SPEC)
    done = run_inspection(run, answering(lambda _: "hole"), report=False, expected=expected)
    assert (done.rows[0].findings[0].defect_class, done.mismatches) == ("hole", ())


def test_corrections_become_training_rows_and_regression_tests(tmp_path, data_set, run):
    out = tmp_path / "run"
    done = inspect(data_set, out, spec=SPEC)
    bad, good = "test/hole/000.png", "test/good/000.png"
    value = {
        "x": 62.5,
        "y": 55.5,
        "width": 4,
        "height": 3,
        "rotation": 0,
        "rectanglelabels": ["hole"],
    }
    box = {"type": "rectanglelabels", "original_width": 480, "original_height": 360, "value": value}
    tasks = [
        {"data": {"image": "x", "id": bad}, "annotations": [{"result": [box]}]},
        {"data": {"image": f"/data/local-files/?d={good}"}, "annotations": [{"result": []}]},
        {"data": {"image": "x", "id": "no/such.png"}, "annotations": [{"result": []}]},
        {"data": {"image": "x", "id": "test/hole/001.png"}, "annotations": []},
    ]
    path = tmp_path / "corrections.json"
    path.write_text(json.dumps(tasks))
    summary = review_run(path, SPEC, out)
    assert (summary.rows, summary.skipped) == (2, {"a photo that is not in the run": 1})
    rows = [json.loads(line) for line in (out / "review/rows.jsonl").read_text().splitlines()]
    assert [one["answer"] for one in rows] == [["hole"], ["ok"]]
    code, *_ = run(
        "synth",
        "jsonl",
        "--data",
        out / "review/rows.jsonl",
        "--allow-media",
        data_set,
        "--out",
        tmp_path / "synth",
    )
    assert code == 0
    assert len((tmp_path / "synth/traces.jsonl").read_text().splitlines()) == 2
    expected = out / "review/regression.jsonl"
    again = run_inspection(
        InspectionRun(data=(data_set,), out=out, spec=SPEC), report=False, expected=expected
    )
    # Without a model the class is not known.
    assert {one.id for one in again.mismatches} == ({bad} if done.count("defect") else set())
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="Label Studio"):
        review_run(tmp_path / "other.json", SPEC, out)


# --- the command ---


def test_the_exit_code_says_what_was_found(tmp_path, golden, run):
    photos = tmp_path / "photos"
    save(plate(5, defect=True), photos / "bad.png")
    save(plate(6), photos / "good.png")
    base = ("inspect", photos, "--reference", golden, "--out", tmp_path / "run")
    assert run(*base)[0] == 0
    code, out, _ = run(*base, "--max-defects", 0, "--export", "sarif")
    assert code == 1
    assert "2 photos: 1 ok, 1 defect" in out
    assert "smallest defect" in out
    assert (tmp_path / "run/exports/sarif/inspection.sarif").is_file()
    assert (tmp_path / "run/report.html").is_file()
    assert run(*base, "--max-defects", 1)[0] == 0
    (photos / "broken.png").write_bytes(b"x")
    assert run("inspect", photos, "--reference", golden, "--out", tmp_path / "two")[0] == 3


def test_one_photo_is_named_in_the_singular_and_the_note_of_the_model_is_printed(
    tmp_path, golden, run, monkeypatch
):
    model = ScriptedModel([r"\boxed{ok}"])
    model.note = "This model only supports drawings."
    monkeypatch.setattr("pixel_reasoner.api.load_model", lambda spec, config: model)
    save(plate(6), tmp_path / "photos" / "good.png")
    given = ("inspect", tmp_path / "photos", "--reference", golden, "--out", tmp_path / "run")
    code, out, err = run(*given, "--model", "tiny", "--no-report")
    assert code == 0
    assert "1 photo: 1 ok" in out
    assert "note: This model only supports drawings." in err


def test_mistakes_are_refused_with_one_message(tmp_path, golden, run):
    photos = tmp_path / "photos"
    save(plate(6), photos / "good.png")
    base = ("inspect", photos, "--out", tmp_path / "run")
    assert_refused(
        run("inspect", tmp_path / "no", "--reference", golden, "--out", tmp_path / "run"), "exist"
    )
    assert_refused(run(*base), "--reference")
    assert_refused(run(*base, "--reference", golden, "--decoys", 0.5), "--decoys", "--model")
    assert_refused(run(*base, "--reference", golden, "--export", "koko"), "coco")
    assert_refused(run(*base, "--reference", golden, "--layout", "mvtek"), "mvtec")
    (tmp_path / "s.toml").write_text("prodct = 1")
    assert_refused(run(*base, "--spec", tmp_path / "s.toml"), "product")
    assert_refused(run(*base, "--reference", golden, "--review", tmp_path / "x.json"), "--review")
    assert not (tmp_path / "run").exists()


def test_the_report_shows_findings_hashes_and_rates(tmp_path, data_set):
    run = InspectionRun(data=(data_set,), out=tmp_path / "run", spec=SPEC)
    done = run_inspection(run)
    text = done.report.read_text()
    for words in (
        "overkill",
        "miss rate",
        "provisional",
        "SHA-256 of the photo",
        done.rows[0].audit.photo_sha256,
    ):
        assert words in text
    assert "No model was asked: difference" in text
    assert '"box_kinds":["major"]' in text, "findings have the colour of their severity"
    assert '["operations",' not in text, "no model was asked"
    assert re.search(r'\["inspected","[\d-]{10}, [\d:]{8} UTC"\]', text)
    assert "No operation showed" not in text
    report = report_of(done.report)
    assert report["words"]["unparsed"] == "left to people"
    assert set(report["words"]) == set(get_args(Word))
    inspected = next(one["value"] for one in report["facts"] if one["name"] == "inspected")
    assert re.fullmatch(r"[\d-]{10}, \d\d:\d\d.* UTC", inspected)
    # No box of a label, and no model.
    assert not any(one["facets"]["evidence"] for one in report["entries"])
    assert not any(one["facets"]["operations"] for one in report["entries"])
