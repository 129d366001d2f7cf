"""Comparison with golden pictures: moved, turned and differently lit parts are good; what cannot be aligned has no difference."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from inspection_fixture import DEFECT, SIZE, other_part, plate, save
from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.inspection.difference import _enlarged, _pooled, levels_of
from pixel_reasoner.workflows.inspection.golden import compare, load_golden_set
from pixel_reasoner.workflows.inspection.heat_maps import heat_map_path, read_heat_map
from pixel_reasoner.workflows.inspection.metrics import iou
from pixel_reasoner.workflows.inspection.places import crowding
from pixel_reasoner.workflows.inspection.proposals import (
    _extent,
    heat_map_proposals,
    propose,
    with_decoys,
)
from pixel_reasoner.workflows.inspection.spec import Difference, InspectionSpec, Region

SPEC = InspectionSpec()
MOVES = {
    "in place": {},
    "shifted": {"shift": (14, -9)},
    "turned": {"rotation_deg": 6.0},
    "lit from one side": {"light": 0.2},
    "all": {"shift": (-11, 8), "rotation_deg": -4.0, "light": -0.15},
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    paths = [save(plate(n, shift=(n % 2, 0)), folder / f"{n}.png") for n in range(4)]
    return load_golden_set(paths, SPEC)


@pytest.mark.parametrize("move", MOVES)
def test_a_good_part_is_good_wherever_it_lies_and_however_it_is_lit(golden, move):
    found = compare(np.asarray(plate(20, **MOVES[move])), golden, SPEC)
    assert found.problem == ""
    assert found.registration.error_px < 0.5
    assert found.score < SPEC.decision.defect_from


@pytest.mark.parametrize("move", MOVES)
def test_a_defect_is_the_first_proposal_wherever_the_part_lies(golden, move):
    photo = np.asarray(plate(21, defect=True, **MOVES[move]))
    found = compare(photo, golden, SPEC)
    places = propose(photo, found, golden, look_from=1.1, limit=3)
    truth = np.asarray(plate(21, defect=True, **MOVES[move])).astype(int)
    difference = np.abs(truth - np.asarray(plate(21, **MOVES[move])).astype(int)).max(axis=2) > 12
    rows, columns = np.nonzero(difference)
    box = Box(
        columns.min() / SIZE[0],
        rows.min() / SIZE[1],
        (columns.max() + 1) / SIZE[0],
        (rows.max() + 1) / SIZE[1],
    )
    assert iou(places[0].fractions(SIZE), box) >= 0.5
    assert found.score > 3


@pytest.mark.parametrize(
    "photo",
    [
        other_part(),
        plate(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        plate(1).rotate(180),
        plate(1, shift=(300, 40)),
        Image.new("RGB", SIZE, (128, 128, 128)),
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (360, 480, 3), dtype=np.uint8)),
    ],
    ids=["wrong part", "mirrored", "turned over", "half outside", "blank", "noise"],
)
def test_what_cannot_be_aligned_has_a_reason_and_no_difference(golden, photo):
    found = compare(np.asarray(photo), golden, SPEC)
    assert found.problem
    assert found.score == 0


def test_a_photo_of_another_size_is_compared(golden):
    photo = plate(30, defect=True).resize((528, 396), Image.Resampling.BICUBIC)
    found = compare(np.asarray(photo), golden, SPEC)
    assert found.problem == ""
    [first, *_] = propose(np.asarray(photo), found, golden, look_from=1.1, limit=3)
    expected = Box(*(side / full for side, full in zip(DEFECT, SIZE * 2, strict=True)))
    assert iou(first.fractions((528, 396)), expected) > 0.5


def test_a_golden_picture_with_a_defect_is_left_out_and_named(tmp_path):
    paths = [save(plate(n, defect=n == 2), tmp_path / f"{n}.png") for n in range(5)]
    paths += [save(other_part(), tmp_path / "other.png"), tmp_path / "missing.png"]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = load_golden_set([*paths, tmp_path / "broken.png"], SPEC)
    notes = "\n".join(found.notes)
    assert [path.name for path in found.paths] == ["0.png", "1.png", "3.png", "4.png"]
    for name in ("2.png", "other.png", "missing.png", "broken.png"):
        assert name in notes


def test_no_usable_golden_picture_is_one_error(tmp_path):
    with pytest.raises(InputError, match="golden"):
        load_golden_set([tmp_path / "missing.png"], SPEC)


def test_one_golden_picture_is_enough_but_provisional(tmp_path):
    found = load_golden_set([save(plate(0), tmp_path / "0.png")], SPEC)
    assert "provisional" in found.notes[-1]
    assert compare(np.asarray(plate(5)), found, SPEC).score < 1.6
    assert compare(np.asarray(plate(5, defect=True)), found, SPEC).score > 1.6


@pytest.mark.parametrize(("use", "is_found"), [("ignore", False), ("inspect", True)])
def test_regions_decide_where_a_difference_counts(tmp_path, use, is_found):
    box = (0.55, 0.45, 0.75, 0.7)
    spec = InspectionSpec(regions={"corner": Region(box=box, use=use)})
    golden = load_golden_set([save(plate(n), tmp_path / f"{n}.png") for n in range(3)], spec)
    found = compare(np.asarray(plate(9, defect=True)), golden, spec)
    assert (found.score > 1.6) == is_found


def test_the_smallest_detectable_size_follows_from_the_working_size(tmp_path):
    path = save(plate(0), tmp_path / "0.png")
    coarse = InspectionSpec(difference=Difference(smallest_defect_px=12))
    assert load_golden_set([path], coarse).smallest_px == 12
    assert load_golden_set([path], SPEC).smallest_px == 3


def test_decoys_lie_apart_from_proposals_and_are_the_same_again(golden):
    photo = np.asarray(plate(21, defect=True))
    places = propose(photo, compare(photo, golden, SPEC), golden, look_from=1.1, limit=3)
    mixed = with_decoys(places, SIZE, 1.0, "a.png")
    assert mixed == with_decoys(places, SIZE, 1.0, "a.png")
    assert [one.number for one in mixed] == list(range(1, len(mixed) + 1))
    decoys = [one for one in mixed if one.is_decoy]
    assert len(decoys) == len(places)
    for one in decoys:
        assert all(
            one.fractions(SIZE).intersection(other.fractions(SIZE)) == 0
            for other in mixed
            if not other.is_decoy
        )


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".npy"])
def test_heat_maps_of_any_unit_and_size_give_the_place(tmp_path, suffix):
    values = np.zeros((90, 120), np.float32)
    values[50:53, 75:79] = 700.0 if suffix != ".png" else 250
    path = tmp_path / "maps" / "test" / f"a{suffix}"
    path.parent.mkdir(parents=True)
    if suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values if suffix == ".tiff" else values.astype(np.uint8)).save(path)
    found = heat_map_path(tmp_path / "maps", "test/a.jpg")
    [place] = heat_map_proposals(read_heat_map(found), SIZE, 5)
    assert place.box == (300, 200, 316, 212)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text"])
def test_a_file_that_is_no_heat_map_is_an_error(tmp_path, content):
    for suffix in (".npy", ".png", ".tiff"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match="heat map"):
            read_heat_map(path)
    save(Image.new("RGB", (4, 4)), tmp_path / "colour.png")
    with pytest.raises(InputError, match="colour"):
        read_heat_map(tmp_path / "colour.png")


# --- maps and boxes ---


def test_a_place_is_in_the_middle_of_itself_at_every_level():
    difference = np.zeros((256, 256, 3), np.int16)
    difference[120:136, 88:104] = 50
    size = (128, 128)
    for level, values in enumerate(levels_of(difference)):
        shown = values[..., 0] if level == 1 else _pooled(values[..., 0].copy())
        if level > 1:
            shown = _enlarged(values[..., 0], size, 2 ** (level - 1))
        rows, columns = np.mgrid[: shown.shape[0], : shown.shape[1]] + 0.5
        centre = [float((axis * shown).sum() / shown.sum()) for axis in (columns, rows)]
        assert centre == [pytest.approx(48, abs=0.01), pytest.approx(64, abs=0.01)], level


def test_the_edge_of_a_photo_is_no_difference(golden):
    photo = np.asarray(plate(22, shift=(40, 30), rotation_deg=5.0))
    found = compare(photo, golden, SPEC)
    assert found.problem == ""
    assert found.score < 1.1, "pixels that the photo does not show are in no mean of an area"


def test_a_large_defect_does_not_hide_its_own_faint_edge():
    difference = np.full((60, 60), 1.0, np.float32)
    difference[8:52, 8:52] = 14  # a faint ring, which fills the measured area
    difference[20:40, 20:40] = 60
    assert _extent(difference, (9, 9, 51, 51)) == (8, 8, 52, 52)


def test_faint_fragments_of_texture_are_not_part_of_a_small_defect():
    difference = np.full((60, 60), 1.0, np.float32)
    difference[30:32, 40:42] = 40  # so few pixels that the robust maximum is that of the texture
    difference[10:12, 5:30] = 11
    assert _extent(difference, (0, 0, 60, 60)) == (40, 30, 42, 32)


def test_light_that_changes_many_places_is_no_defect_and_a_defect_stands_out():
    scores = np.full((200, 200), 0.2, np.float32)
    scores[20::40, 20::40] = 1.8
    assert crowding(scores) == pytest.approx(1.8)
    scores[20::40, 20::40] = 9
    assert crowding(scores) == 2, "a part with many defects keeps half of its score"
    scores[:] = 0.2
    scores[100, 20:180] = 3
    assert crowding(scores) == 1, "a long scratch is one place"
