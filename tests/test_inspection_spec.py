"""The specification of an inspection: strict keys, unique names, the same after writing."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, strategies as st

from inspection_fixture import write_data_set
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.workflows.inspection.spec import (
    DefectClass,
    InspectionSpec,
    label_key,
    parse_spec,
    read_spec,
)
from pixel_reasoner.workflows.inspection.spec_file import first_spec, spec_text, write_spec


@pytest.mark.parametrize(
    ("table", "nearest"),
    [
        ({"prodct": "a"}, "product"),
        ({"defects": {"dent": {"max_counts": 1}}}, "max_count"),
        ({"regions": {"label": {"box": [0, 0, 1, 1], "uses": "ignore"}}}, "use"),
        ({"decision": {"defect_form": 2}}, "defect_from"),
        ({"alignment": {"max_rotation": 3}}, "max_rotation_deg"),
    ],
)
def test_an_unknown_key_names_the_nearest(table, nearest):
    with pytest.raises(UsageError) as caught:
        parse_spec(table)
    assert nearest in caught.value.fix


@pytest.mark.parametrize(
    "table",
    [
        {"defects": {"ok": {}}},
        {"defects": {"a": {"aliases": ["b"]}, "b": {}}},
        {"defects": {"a": {"severity": "bad"}}},
        {"decision": {"look_from": 3, "defect_from": 1}},
        {"regions": {"r": {"box": [0.5, 0, 0.1, 1]}}},
    ],
)
def test_a_value_that_makes_no_sense_is_an_error(table):
    with pytest.raises(UsageError):
        parse_spec(table)


names = st.text(min_size=1, max_size=12).filter(
    lambda text: label_key(text) not in ("", "ok", "good", "none", "unsure")
)


@given(
    good=st.text(max_size=40),
    classes=st.dictionaries(names.map(label_key), st.text(max_size=20), max_size=3),
)
def test_a_written_specification_reads_as_the_same(good, classes):
    defects = {name: DefectClass(description=text) for name, text in classes.items()}
    spec = InspectionSpec(good=good, defects=defects)
    assert parse_spec(tomllib.loads(spec_text(spec))) == spec


def test_the_hash_changes_with_a_value_and_not_with_a_comment(tmp_path):
    spec = InspectionSpec(product="plate")
    write_spec(spec, tmp_path / "a.toml")
    assert read_spec(tmp_path / "a.toml").spec.sha256() == spec.sha256()
    assert InspectionSpec(product="plate ").sha256() != spec.sha256()


def test_the_first_specification_has_the_classes_and_the_references_of_the_folder(tmp_path):
    root = write_data_set(tmp_path / "plate", good=1, bad=1, references=1)
    spec = first_spec(root, tmp_path / "plate.toml")
    assert list(spec.defects) == ["hole"]
    write_spec(spec, tmp_path / "plate.toml")
    assert read_spec(tmp_path / "plate.toml").reference == root / "train" / "good"
    with pytest.raises(OutputError):
        write_spec(spec, tmp_path / "plate.toml")


def test_a_file_that_is_not_toml_is_one_error(tmp_path):
    (tmp_path / "a.toml").write_text("good = no quotes")
    with pytest.raises(InputError, match="init inspect"):
        read_spec(tmp_path / "a.toml")
