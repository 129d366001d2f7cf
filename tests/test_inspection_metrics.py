"""Metrics of an inspection against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.inspection.metrics import (
    aupro,
    class_recall,
    f1_max,
    f1_of_verdicts,
    found_boxes,
    image_auroc,
    mask_boxes,
    rate,
    reject_precision,
    sized_mask,
    verdict_rates,
)
from pixel_reasoner.workflows.inspection.spec import DefectClass, InspectionSpec
from pixel_reasoner.workflows.inspection.thresholds import choose_thresholds
from pixel_reasoner.workflows.inspection.verdicts import (
    Finding,
    InspectionRow,
    Verdict,
    part_verdict,
    with_tolerances,
)

OK, DEFECT, UNSURE, ERROR = Verdict.OK, Verdict.DEFECT, Verdict.UNSURE, Verdict.ERROR


def test_wilson_intervals_are_those_of_the_formula():
    found = rate(8, 10)
    # (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) with p = 0.8, n = 10, z = 1.96
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert rate(0, 20).low == 0
    assert rate(0, 20).high == pytest.approx(0.1611, abs=1e-4)


def test_overkill_and_misses_are_apart_and_unsure_is_neither():
    pairs = [("good", OK)] * 6 + [("good", DEFECT)] * 2 + [("good", UNSURE)] * 2
    pairs += [("defect", DEFECT)] * 3 + [("defect", OK)] + [("defect", ERROR)] + [("", OK)] * 5
    found = verdict_rates(pairs)
    assert found.overkill[3:] == (2, 10)
    assert found.miss[3:] == (1, 5)
    assert found.unsure[3:] == (3, 20)


def test_always_ok_has_a_miss_rate_of_one():
    assert verdict_rates([("good", OK)] * 95 + [("defect", OK)] * 5).miss.value == 1


def test_ties_count_half_in_auroc():
    # pairs (bad, good): 2>1 yes, 2=2 half, 3>1, 3>2 yes -> 3.5 of 4
    assert image_auroc([False, False, True, True], [1, 2, 2, 3]) == 0.875
    assert image_auroc([True, True], [1, 2]) is None


def test_f1_max_takes_the_best_threshold_and_f1_of_verdicts_the_deployed_one():
    # at 0.6: 2 right, 1 wrong, 0 missed -> 2*2/(2*2+1) = 0.8
    found = f1_max([False, True, False, True], [0.1, 0.6, 0.7, 0.9])
    assert (found.value, found.threshold) == pytest.approx((0.8, 0.6))
    pairs = [("defect", DEFECT), ("defect", UNSURE), ("good", DEFECT), ("good", OK)]
    assert f1_of_verdicts(pairs) == 0.5
    assert f1_of_verdicts([("good", OK)]) is None


def row(label_class, verdict):
    label = "defect" if label_class else "good"
    return InspectionRow(id="a", path="a", verdict=verdict, label=label, label_class=label_class)


def test_recall_is_per_class_of_the_data():
    rows = [row("dent", DEFECT), row("dent", OK), row("hole", DEFECT), row("", OK)]
    found = class_recall(rows)
    assert {name: (one.hits, one.total) for name, one in found.items()} == {
        "dent": (1, 2),
        "hole": (1, 1),
    }


def test_precision_at_a_rare_defect_is_low_although_both_rates_are_small():
    # 0.9 * 0.001 / (0.9 * 0.001 + 0.01 * 0.999) = 0.0826
    assert reject_precision(0.1, 0.01, 0.001) == pytest.approx(0.0826, abs=1e-4)
    assert reject_precision(1.0, 0.0, 0.01) is None


# --- AUPRO ---


def test_aupro_is_one_for_perfect_maps_and_half_the_limit_for_useless_ones():
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:4] = True
    assert aupro([mask.astype(float)], [mask]) == 1.0
    # A constant map: the curve is the diagonal, area limit**2 / 2 divided by the limit.
    assert aupro([np.zeros((10, 10))], [mask], 0.3) == pytest.approx(0.15)


def test_each_region_weighs_the_same_in_aupro():
    # A region of 4 pixels that is found and one of 1 pixel that is found last.
    mask = np.zeros((1, 25), bool)
    mask[0, 0:4] = mask[0, 10] = True
    scores = np.full((1, 25), 0.5)
    scores[0, 0:4], scores[0, 10] = 1.0, 0.0
    # The overlap is 0.5 until all 20 good pixels are wrong: (0.5 * 0.3) / 0.3.
    assert aupro([scores], [mask], 0.3) == pytest.approx(0.5)


def test_aupro_interpolates_at_the_limit():
    # 10 good pixels, one of them scores above the region: overlap 0 up to a false positive rate of 0.1, then 1.
    mask = np.zeros((1, 11), bool)
    mask[0, 0] = True
    scores = np.zeros((1, 11))
    scores[0, 0], scores[0, 1] = 0.5, 0.9
    assert aupro([scores], [mask], 0.2) == pytest.approx(0.5)


def test_aupro_without_regions_is_unknown_and_not_zero():
    assert aupro([np.ones((4, 4))], [np.zeros((4, 4), bool)]) is None
    assert aupro([], []) is None


def test_touching_corners_are_one_region():
    mask = np.zeros((6, 6), bool)
    mask[1, 1] = mask[2, 2] = True
    assert len(mask_boxes(mask)) == 1
    mask[5, 5] = True
    assert mask_boxes(mask)[0] == Box(1 / 6, 1 / 6, 0.5, 0.5)
    assert len(mask_boxes(mask)) == 2


def test_masks_with_class_numbers_are_not_black():
    assert sized_mask(np.array([[0, 3], [9, 0]], np.uint8), (4, 4)).sum() == 8


def test_boxes_are_found_by_overlap():
    truth = [Box(0, 0, 0.2, 0.2), Box(0.5, 0.5, 0.7, 0.7)]
    assert found_boxes([Box(0, 0, 0.2, 0.1), Box(0.69, 0.5, 0.9, 0.7)], truth) == 1


# --- thresholds ---

scores = st.lists(st.floats(0, 100), min_size=1, max_size=30)


@given(good=scores, bad=scores, rate_=st.floats(0, 0.99))
def test_a_chosen_threshold_keeps_the_stated_miss_rate(good, bad, rate_):
    found = choose_thresholds(good, bad, rate_, "here")
    assert found.miss.value <= rate_ + 1e-12
    assert found.decision.look_from <= found.decision.defect_from
    assert found.overkill.hits == sum(score >= found.decision.defect_from for score in good)


def test_few_defects_and_high_overkill_are_warnings():
    good = [0.5, 0.9, 1.4]
    (few,) = choose_thresholds(good, [1.2, 1.5, 2.0, 4.0], 0.05, "here").warnings
    assert few.startswith("4 defective photos are too few for a miss rate of 5.0%")
    assert few.endswith("overkill 33%. Use at least 20")
    (high,) = choose_thresholds(good, [1.2, 1.3, 2.0, 4.0], 0.25, "here").warnings
    assert high.startswith("overkill 33%")
    enough = choose_thresholds([0.5, 0.9], [1.2, 1.5, 2.0, 4.0], 0.25, "here")
    assert not enough.warnings
    assert not choose_thresholds([0.5], [1.2], 0.0, "here").warnings  # the weakest must be found


def test_chosen_thresholds_have_at_most_four_digits_more_than_the_scores():
    assert choose_thresholds([], [1.0625], 0.0, "here").decision.look_from == 0.85
    found = choose_thresholds([1.1], [], 0.0, "here").decision
    assert (found.defect_from, found.look_from) == (1.562, 1.2496)


def test_good_photos_alone_give_a_provisional_threshold_above_all_of_them():
    found = choose_thresholds([0.5, 0.6, 1.0], [], 0.02, "here")
    assert found.decision.defect_from == pytest.approx(1.42)
    assert "provisional" in found.decision.origin
    assert found.decision.date
    with pytest.raises(InputError):
        choose_thresholds([], [], 0.02, "here")


# --- verdicts ---


def finding(name, side):
    return Finding(box=(0.1, 0.1, 0.1 + side / 100, 0.2), defect_class=name, severity="major")


def test_small_and_few_findings_are_tolerated():
    spec = InspectionSpec(
        defects={"scratch": DefectClass(min_size_px=20), "dent": DefectClass(max_count=1)}
    )
    found = [finding("scratch", 5), finding("scratch", 40), finding("dent", 30)]
    checked = with_tolerances(found, spec, (100, 100))
    assert [one.is_tolerated for one in checked] == [True, False, True]
    checked = with_tolerances([*found, finding("dent", 31)], spec, (100, 100))
    assert [one.is_tolerated for one in checked] == [True, False, False, False]


def test_a_part_is_ok_only_if_all_photos_are():
    assert part_verdict([OK, OK]) is OK
    assert part_verdict([OK, UNSURE]) is UNSURE
    assert part_verdict([UNSURE, ERROR]) is ERROR
    assert part_verdict([ERROR, DEFECT, OK]) is DEFECT
