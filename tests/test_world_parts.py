"""PixelWorld parts: a seed determines every pixel, and a defect changes nothing outside of its mask."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner import api
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.world.parts import (
    CONDITIONS,
    DEFECT_CLASSES,
    KINDS,
    PartsParams,
    plan_parts,
    read_parts,
    take_photo,
    write,
)
from pixel_reasoner.world.parts.camera import VIEWS, Placement, projection, warp
from pixel_reasoner.world.parts.defects import SEVERITIES
from pixel_reasoner.world.parts.light import Light
from pixel_reasoner.world.parts.shot import Defect, Shot
from pixel_reasoner.world.parts.surface import paint_kind
from pixel_reasoner.world.parts.table import PartTable
from pixel_reasoner.world.scene import SPLITS

WIDTH, HEIGHT = 320, 240
SMALL = PartsParams(width_px=WIDTH, references=2, validation=4, test=10, unaligned=2)

shots = st.builds(
    Shot,
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10**6),
    view=st.sampled_from(VIEWS),
    condition=st.just("steady"),
    width=st.just(WIDTH),
    placement=st.builds(
        Placement,
        dx=st.floats(-0.03, 0.03),
        dy=st.floats(-0.03, 0.03),
        rotation_deg=st.floats(-8, 8),
    ),
    light=st.builds(Light, brightness=st.floats(0.7, 1.1), gradient=st.floats(0, 0.3)),
    defect=st.builds(
        Defect, st.sampled_from(DEFECT_CLASSES), st.sampled_from(list(SEVERITIES)), st.floats(1, 40)
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("parts")
    spec = api.PartsSpec(
        "plate,gear", WIDTH, references=1, validation=2, test=10, unaligned=2, views=2
    )
    api.render_parts(spec, out)
    return out


# --- pixels ---


@settings(max_examples=20)
@given(shots)
def test_a_defect_changes_pixels_inside_its_mask_alone(shot):
    bad, good = take_photo(shot), take_photo(shot._replace(defect=None))
    differs = (bad.pixels != good.pixels).any(axis=2)
    assert not (differs & ~bad.mask).any()
    assert not good.mask.any()
    assert good.detail == ""
    # Noise cannot hide it, and the mask is not much larger than the visible change.
    assert bad.mask.any()
    assert differs[bad.mask].mean() > 0.5, bad.detail


@settings(max_examples=5)
@given(shots)
def test_a_shot_is_a_function_of_its_description(shot):
    first = take_photo(shot)
    paint_kind.cache_clear()
    second = take_photo(shot)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.mask, second.mask)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_one_kind_differ_by_texture_noise_and_placement_only(kind):
    planned = [one.shot for one in plan_parts(SMALL) if one.kind == kind and one.split == "train"]
    first, second = (take_photo(shot).pixels.astype(int) for shot in planned)
    difference = np.abs(first - second).max(axis=2)
    assert difference.any()
    assert np.median(difference) <= 14


@pytest.mark.parametrize("view", VIEWS)
def test_the_matrix_is_the_position_of_the_part_in_the_photograph(view):
    size, rng = (400, 300), random.Random(0)
    for _ in range(5):
        placement = Placement(
            dx=rng.uniform(-0.03, 0.03),
            dy=rng.uniform(-0.03, 0.03),
            rotation_deg=rng.uniform(-8, 8),
        )
        matrix = projection(view, placement, size)
        dot = np.zeros((300, 400), np.uint8)
        x, y = rng.randint(120, 280), rng.randint(100, 200)
        dot[y - 3 : y + 3, x - 3 : x + 3] = 255
        seen = warp(dot, matrix, (0, 0, *size)).astype(float)
        rows, columns = np.mgrid[:300, :400] + 0.5
        u, v, w = matrix @ (x, y, 1)
        assert (seen * columns).sum() / seen.sum() == pytest.approx(u / w, abs=0.15)
        assert (seen * rows).sum() / seen.sum() == pytest.approx(v / w, abs=0.15)


# --- folders ---


def test_a_folder_has_the_layout_of_mvtec_ad(folder):
    rows = list(read_parts(folder))
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert found == {row.image for row in rows} | {row.mask for row in rows if row.mask}
    for kind in ("plate", "gear"):
        truth = {path.name for path in (folder / kind / "ground_truth").iterdir()}
        classes = {path.name for path in (folder / kind / "test").iterdir()}
        assert classes == truth | {"good"} == {*DEFECT_CLASSES, "good"}
        for mask in (folder / kind / "ground_truth").rglob("*.png"):
            photo = folder / kind / "test" / mask.parent.name / mask.name.replace("_mask", "")
            assert photo.is_file()


def test_masks_are_0_or_255_and_boxes_enclose_them(folder):
    for row in read_parts(folder):
        with Image.open(folder / row.image) as photo:
            assert photo.size == row.size_px == (WIDTH, HEIGHT)
        if row.mask is None:
            assert row.defects == ()
            continue
        with Image.open(folder / row.mask) as picture:
            assert picture.mode == "L"
            mask = np.asarray(picture)
        assert mask.shape == (HEIGHT, WIDTH)
        assert set(np.unique(mask)) <= {0, 255}
        if not row.defects:  # hidden from this camera
            assert not mask.any()
            continue
        [defect] = row.defects
        left, top, right, bottom = defect.box_px
        assert mask[top:bottom, left:right].astype(bool).sum() == defect.area_px
        assert (mask > 0).sum() == defect.area_px
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == defect.box_px
        assert defect.box.x1 * WIDTH == pytest.approx(left)
        assert defect.box.y2 * HEIGHT == pytest.approx(bottom)


def test_rows_say_what_is_expected(folder):
    rows = list(read_parts(folder))
    assert {row.condition for row in rows} == set(CONDITIONS)
    for row in rows:
        expected = "defect" if row.defects else "ok"
        assert row.expected == ("unsure" if "unaligned" in row.image else expected)
        if row.split == "train":
            assert row.condition == "steady"
            assert row.expected == "ok"
    for split in ("validation", "test"):
        assert {row.expected for row in rows if row.split == split} >= {"ok", "defect"}


def test_splits_share_no_part_and_all_views_of_a_part_are_in_one_folder(folder):
    by_part = defaultdict(list)
    for row in read_parts(folder):
        first, end = SPLITS[row.split]
        assert first <= row.seed < end
        by_part[row.part].append(row)
    for rows in by_part.values():
        assert len({(row.split, Path(row.image).parent) for row in rows}) == 1
        assert [row.view for row in rows] == ["C1", "C2"]


def test_another_seed_gives_other_parts_and_the_same_seed_the_same_files(folder, tmp_path):
    spec = api.PartsSpec(
        kinds="gear", width_px=WIDTH, references=1, validation=0, test=2, unaligned=1, views=2
    )
    api.render_parts(spec, tmp_path / "again")
    for path in (tmp_path / "again" / "gear").rglob("*.png"):
        if "unaligned" not in str(path):  # their seeds follow those of the test split
            other = folder / path.relative_to(tmp_path / "again")
            assert path.read_bytes() == other.read_bytes()
    other = [one.shot for one in plan_parts(SMALL.model_copy(update={"seed": 100}))]
    assert not {shot.seed for shot in other} & {one.shot.seed for one in plan_parts(SMALL)}


def test_sizes_of_defects_cover_the_range_evenly():
    params = PartsParams(test=100, kinds=("plate",), width_px=4000)
    scale = params.size[0] / params.overview[0]
    defects = [one.shot.defect for one in plan_parts(params) if one.folder.startswith("test/")]
    lengths = [one.length_px / scale for one in defects if one]
    counts, _ = np.histogram(lengths, np.geomspace(1, 40, 6))
    assert sum(counts) == 50
    assert counts.min() >= 8


@pytest.mark.parametrize("kind", ["scratch", "dent", "misprint"])
def test_a_defect_has_the_wanted_size(kind):
    for length in (6.0, 20.0):
        defect = Defect(kind, "critical", length)
        shot = Shot("label", 3, "C1", "steady", WIDTH, Placement(), Light(), defect)
        rows, columns = np.nonzero(take_photo(shot).mask)
        side = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 0.5 * length <= side <= 1.4 * length + 2


# --- resuming ---


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_an_interrupted_folder_continues_with_the_same_bytes(tmp_path, monkeypatch):
    spec = api.PartsSpec("gear", WIDTH, references=1, validation=2, test=2, unaligned=0)
    api.render_parts(spec, tmp_path / "whole")
    taken = []

    def dies(shot):
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(shot)
        return take_photo(shot)

    monkeypatch.setattr(write, "take_photo", dies)
    with pytest.raises(KeyboardInterrupt):
        api.render_parts(spec, tmp_path / "parts")
    assert not (tmp_path / "parts/parts.jsonl").exists()
    with (tmp_path / "parts" / write.JOURNAL_FILE).open("a") as file:
        file.write('{"id": "cut o')
    monkeypatch.setattr(write, "take_photo", lambda shot: taken.append(shot) or take_photo(shot))
    api.render_parts(spec, tmp_path / "parts")
    assert len(taken) == 5
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    api.render_parts(spec, tmp_path / "parts")
    assert len(taken) == 5


def test_a_folder_with_other_photographs_is_refused(tmp_path):
    spec = api.PartsSpec("gear", WIDTH, references=1, validation=0, test=2, unaligned=0)
    api.render_parts(spec, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="use another --out, or delete this folder"):
        api.render_parts(replace(spec, test=1), tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / write.SETTINGS_FILE).unlink()
    with pytest.raises(UsageError, match=r"without settings\.json"):
        api.render_parts(spec, tmp_path)


# --- recognition ---


def test_a_photograph_is_recognised_at_any_size_and_a_crop_is_not(folder):
    table = PartTable(folder)
    for row in table.rows[::5]:
        with Image.open(folder / row.image) as photo:
            for size in ((192, 160), (128, 96), photo.size):
                assert table.recognise(photo.resize(size, Image.Resampling.LANCZOS)) == row
            assert table.recognise(photo.crop((80, 64, 176, 136))) is None
    assert table.recognise(Image.new("RGB", (400, 300), "white")) is None


def test_a_folder_without_annotation_is_one_error(tmp_path):
    with pytest.raises(InputError, match="parts"):
        PartTable(tmp_path)


# --- options ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": "gaer"}, "kinds of parts"),
        ({"conditions": "misaligned"}, "one of the conditions"),
        ({"defects": ""}, "classes of defects"),
        ({"width_px": 5000}, "--width-px"),
        ({"views": 4}, "--views"),
        ({"test": -1}, "--test"),
        ({"min_defect": 9.0, "max_defect": 3.0}, "at least 9"),
    ],
)
def test_wrong_values_are_rejected_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        api.render_parts(api.PartsSpec(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_parts_than_the_split_has_seeds_are_rejected(tmp_path):
    with pytest.raises(UsageError, match="seed"):
        api.render_parts(api.PartsSpec(seed=999_999), tmp_path / "out")


def test_twelve_megapixels_are_the_largest_size():
    assert PartsParams(width_px=4000).size == (4000, 3000)
    assert api.PartsSpec(width_px=4000).params().overview == (1152, 864)


def test_render_names_the_command_of_these_families(run, tmp_path):
    for family in ("parts", "moments"):
        code, _, error = run("world", "render", "--family", family, "--out", tmp_path / "out")
        assert code == 2
        assert f"use `pixel-reasoner world {family}`" in error


def test_both_commands_write_a_folder_and_print_its_annotation(run, tmp_path):
    small = ("--kinds", "gear", "--width-px", 320, "--references", 1, "--validation", 0)
    code, output, _ = run("world", "parts", *small, "--test", 2, "--out", tmp_path / "parts")
    assert code == 0
    assert str(tmp_path / "parts" / "parts.jsonl") in output
    short = ("--count", 1, "--duration-s", 2, "--plain")
    code, output, _ = run("world", "moments", *short, "--out", tmp_path / "clips")
    assert code == 0
    assert str(tmp_path / "clips" / "moments.jsonl") in output
