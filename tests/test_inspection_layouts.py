"""Layouts of inspection data sets: detected, photos and masks paired by name, every oddity a note."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from inspection_fixture import save
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.workflows.inspection.layouts import read_dataset
from pixel_reasoner.workflows.inspection.samples import part_and_view

TINY = Image.new("RGB", (8, 6))


def photos(root, *names):
    for name in names:
        save(TINY, root / name)


def by_id(dataset):
    return {one.id: one for one in dataset.samples}


def test_mvtec_masks_are_paired_by_the_exact_stem(tmp_path):
    photos(tmp_path, "a/train/good/000.png", "a/test/good/000.png")
    photos(tmp_path, "a/test/hole/1.png", "a/test/hole/10.png", "a/ground_truth/hole/10_mask.png")
    photos(tmp_path, "a/ground_truth/hole/7_mask.png")
    found = read_dataset(tmp_path)
    samples = by_id(found)
    assert found.layout == "mvtec"
    assert samples["a/test/hole/10.png"].mask.name == "10_mask.png"
    assert samples["a/test/hole/1.png"].mask is None
    assert samples["a/test/hole/1.png"].notes == ("no mask",)
    assert samples["a/test/hole/1.png"].defect_class == "hole"
    assert samples["a/train/good/000.png"].split == "train"
    assert {one.category for one in found.samples} == {"a"}
    assert any("7_mask.png" in note for note in found.notes)


def test_mvtec_2_has_public_labels_and_private_photos_without(tmp_path):
    photos(tmp_path, "can/train/good/000.png", "can/validation/good/000.png")
    photos(tmp_path, "can/test_public/good/000.png", "can/test_public/bad/001.png")
    photos(tmp_path, "can/test_public/ground_truth/bad/001_mask.png")
    photos(tmp_path, "can/test_private/000_regular.png")
    found = read_dataset(tmp_path)
    samples = by_id(found)
    assert found.layout == "mvtec2"
    assert samples["can/test_public/bad/001.png"].label == "defect"
    assert samples["can/test_public/bad/001.png"].mask is not None
    assert samples["can/test_private/000_regular.png"].label == ""
    assert [one.split for one in found.of("validation")] == ["validation"]


@pytest.mark.parametrize("has_split", [True, False])
def test_visa_photos_with_equal_names_are_different(tmp_path, has_split):
    base = "candle/Data"
    photos(tmp_path, f"{base}/Images/Normal/000.JPG", f"{base}/Images/Anomaly/000.JPG")
    photos(tmp_path, f"{base}/Masks/Anomaly/000.png")
    (tmp_path / "candle/image_anno.csv").write_text(
        "image,label,mask\n"
        f"{base}/Images/Normal/000.JPG,normal,\n"
        f'{base}/Images/Anomaly/000.JPG,"wax melted,chip",{base}/Masks/Anomaly/000.png\n'
    )
    if has_split:
        (tmp_path / "split_csv").mkdir()
        (tmp_path / "split_csv/1cls.csv").write_text(
            "object,split,label,image,mask\n"
            f"candle,train,normal,{base}/Images/Normal/000.JPG,\n"
            f"candle,test,anomaly,{base}/Images/Anomaly/000.JPG,{base}/Masks/Anomaly/000.png\n"
        )
    found = read_dataset(tmp_path)
    samples = by_id(found)
    assert found.layout == "visa"
    assert len(samples) == 2
    bad = samples[f"{base}/Images/Anomaly/000.JPG"]
    assert (bad.label, bad.defect_class, bad.mask.name) == ("defect", "wax melted", "000.png")
    good = samples[f"{base}/Images/Normal/000.JPG"]
    assert good.split == ("train" if has_split else "test")


def test_a_split_file_with_other_columns_is_one_error(tmp_path):
    photos(tmp_path, "candle/Data/Images/Normal/000.JPG")
    (tmp_path / "1cls.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="object, split, label"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("has_json", [True, False])
def test_realiad_photos_of_one_part_belong_together(tmp_path, has_json):
    root = tmp_path / "realiad_1024"
    ok = "OK/S0001/toy_0001_OK_C1_2023.jpg"
    bad = [f"NG/pit/S0002/toy_0002_NG_C{n}_2023.jpg" for n in (1, 2)]
    for name in (ok, *bad):
        save(TINY, root / "toy" / name)
    save(TINY, root / "toy" / bad[0].replace(".jpg", "_mask.png"))
    if has_json:
        (tmp_path / "realiad_jsons").mkdir()
        rows = {
            "train": [{"image_path": ok, "anomaly_class": "OK"}],
            "test": [
                {
                    "image_path": bad[0],
                    "mask_path": bad[0].replace(".jpg", "_mask.png"),
                    "anomaly_class": "pit",
                },
                {"image_path": bad[1], "anomaly_class": "pit"},
            ],
        }
        (tmp_path / "realiad_jsons/toy.json").write_text(json.dumps(rows))
    found = read_dataset(tmp_path)
    test = [one for one in found.samples if one.label == "defect"]
    assert found.layout == "realiad"
    assert len({one.part for one in test}) == 1
    assert [one.view for one in test] == ["C1", "C2"]
    assert [one.mask is not None for one in test] == [True, False]
    assert {one.split for one in found.samples if one.label == "good"} == {
        "train" if has_json else "test"
    }


def test_anomalib_folders_keep_every_fifth_good_photo_for_the_test(tmp_path):
    photos(tmp_path, *(f"good/{n}.png" for n in range(10)), "bad/dent/1.png", "bad/dent/2.png")
    photos(tmp_path, "mask/dent/2.png", "bad/.hidden.png")
    found = read_dataset(tmp_path)
    assert found.layout == "anomalib"
    assert (len(found.of("train")), len(found.of("test", "good"))) == (8, 2)
    bad = found.of("test", "defect")
    assert [(one.defect_class, one.mask is not None) for one in bad] == [
        ("dent", False),
        ("dent", True),
    ]


def test_a_plain_folder_takes_labels_from_folder_names(tmp_path):
    photos(tmp_path, "a.png", "ok/b.png", "line1/ng/c.png", "d.txt.png", "e_mask.png")
    (tmp_path / "note.txt").write_text("no picture")
    found = read_dataset(tmp_path)
    assert found.layout == "plain"
    assert {one.id: one.label for one in found.samples} == {
        "a.png": "",
        "ok/b.png": "good",
        "line1/ng/c.png": "defect",
        "d.txt.png": "",
    }


def test_a_named_layout_overrides_the_detected_one(tmp_path):
    photos(tmp_path, "train/good/0.png", "test/good/0.png")
    assert len(read_dataset(tmp_path, "plain").of("test")) == 2
    with pytest.raises(InputError, match="layout visa"):
        read_dataset(tmp_path, "visa")
    with pytest.raises(UsageError, match="mvtec"):
        read_dataset(tmp_path, "mvtek")
    with pytest.raises(InputError, match="does not exist"):
        read_dataset(tmp_path / "no")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S0001_C2.png", ("S0001", "C2")),
        ("a-C1-x.png", ("a", "C1")),
        ("C1.png", ("", "")),
        ("ab_CD.png", ("", "")),
    ],
)
def test_the_camera_is_a_part_of_the_name(tmp_path, name, expected):
    part, view = part_and_view(tmp_path / name, tmp_path)
    assert (part.removeprefix("./"), view) == expected
