"""Counts and metrics of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import write_json
from pixel_reasoner.workflows.inspection.examine import map_path
from pixel_reasoner.workflows.inspection.metrics import (
    AUPRO_LIMIT,
    MIN_IOU,
    as_json,
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
from pixel_reasoner.workflows.inspection.pictures import Array
from pixel_reasoner.workflows.inspection.reading import read_rgb
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import (
    InspectionRow,
    Verdict,
    part_verdict,
)

SUMMARY = "summary.json"
_DEFECT_RATES = (0.001, 0.01, 0.05)
_BAD_MASK = "mask "
"""start of the notes on masks that cannot be used"""


def summarize(rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path) -> dict[str, Any]:
    """Return counts and metrics of all photos, and write them to summary.json.

    Duplicates of an earlier photo are counted, and left out of the metrics.

    Raises:
        OutputError: the file cannot be written.
    """
    unique = [one for one in rows if not one.duplicate_of]
    found: dict[str, Any] = {
        "photos": len(rows),
        "verdicts": {one.value: 0 for one in Verdict}
        | dict(Counter(one.verdict.value for one in rows)),
        "findings": sum(not one.is_tolerated for row in rows for one in row.findings),
        "tolerated": sum(one.is_tolerated for row in rows for one in row.findings),
        "duplicates": len(rows) - len(unique),
        "notes": dict(Counter(note for row in rows for note in row.notes).most_common(50)),
        "smallest_defect_px": max((r.smallest_px for r in rows if r.smallest_px), default=None),
        "decision": spec.decision.model_dump(mode="json"),
        "seconds_per_photo": round(float(np.mean([r.audit.seconds for r in rows])), 4),
    }
    if decoys := sum(row.num_decoys for row in rows):
        found["decoys_accepted"] = rate(sum(r.num_accepted_decoys for r in rows), decoys)
    if parts := part_rows(rows):
        counts = Counter(str(part["verdict"]) for part in parts)
        found["parts"] = {"count": len(parts), **counts}
    if any(one.label for one in unique):
        found["metrics"] = _metrics(unique, out)
    written = as_json(found)
    write_json(written, out / SUMMARY)
    return written


def part_rows(rows: Iterable[InspectionRow]) -> list[dict[str, Any]]:
    """Return one row per part with several photos: bad if any photo is bad."""
    parts: dict[str, list[InspectionRow]] = {}
    for row in rows:
        if row.part:
            parts.setdefault(row.part, []).append(row)
    return [
        {
            "part": name,
            "verdict": part_verdict([one.verdict for one in views]).value,
            "views": {one.view or one.id: one.verdict.value for one in views},
            "label": _part_label(views),
            "classes": sorted({f.defect_class for one in views for f in one.findings}),
        }
        for name, views in parts.items()
        if len(views) > 1
    ]


def _part_label(views: Sequence[InspectionRow]) -> str:
    labels = {one.label for one in views}
    return "defect" if "defect" in labels else "good" if labels == {"good"} else ""


def _metrics(rows: Sequence[InspectionRow], out: Path) -> dict[str, Any]:
    pairs = [(row.label, row.verdict) for row in rows]
    rates = verdict_rates(pairs)
    labelled = [row for row in rows if row.label]
    scored = [row for row in labelled if row.score is not None]
    labels = [row.label == "defect" for row in scored]
    scores = [row.score for row in scored if row.score is not None]
    found: dict[str, Any] = {
        "overkill": rates.overkill,
        "miss": rates.miss,
        "unsure_or_error": rates.unsure,
        "f1": f1_of_verdicts(pairs),
        "image_auroc": image_auroc(labels, scores),
        "f1_max": f1_max(labels, scores),
        "scored": rate(len(scored), len(labelled)),
        "recall": class_recall(rows),
        "part_overkill_and_miss": _part_rates(rows),
    }
    if rates.miss.value is not None and rates.overkill.value is not None:
        found["rejects_that_are_bad"] = {
            f"{one:.1%} defective": reject_precision(rates.miss.value, rates.overkill.value, one)
            for one in _DEFECT_RATES
        }
    found |= _places(labelled, out)
    return {name: value for name, value in found.items() if value is not None}


def _part_rates(rows: Sequence[InspectionRow]) -> dict[str, Any] | None:
    parts = part_rows(rows)
    if not parts:
        return None
    rates = verdict_rates([(one["label"], Verdict(one["verdict"])) for one in parts])
    return {"overkill": rates.overkill, "miss": rates.miss, "unsure_or_error": rates.unsure}


def _places(rows: Sequence[InspectionRow], out: Path) -> dict[str, Any]:
    """Return the metrics of places: boxes against masks, and AUPRO of the maps."""
    maps: list[Array] = []
    masks: list[Array] = []
    num_boxes = num_found = num_proposed = 0
    for row in rows:
        mask = _mask(row)
        if mask is not None:
            truth = mask_boxes(mask)
            num_boxes += len(truth)
            num_found += found_boxes([one.box for one in row.findings], truth)
            num_proposed += found_boxes([one.box for one in row.proposals], truth)
        values = _map(row, out)
        if values is not None and (mask is not None or row.label == "good"):
            shape = (values.shape[0], values.shape[1])
            maps.append(values)
            masks.append(np.zeros(shape, bool) if mask is None else sized_mask(mask, shape))
    found: dict[str, Any] = {}
    if num_boxes:
        found[f"defects_with_box_iou_{MIN_IOU:g}"] = rate(num_found, num_boxes)
        found[f"defects_with_proposal_iou_{MIN_IOU:g}"] = rate(num_proposed, num_boxes)
    if maps:
        found["aupro"] = aupro(maps, masks)
        found["aupro_limit"] = AUPRO_LIMIT
        found["aupro_map_px"] = sorted({f"{one.shape[1]} x {one.shape[0]}" for one in maps})
    return found


def _mask(row: InspectionRow) -> Array | None:
    if not row.mask or any(note.startswith(_BAD_MASK) for note in row.notes):
        return None
    try:
        found: Array = read_rgb(Path(row.mask)).max(axis=2) > 0
        return found
    except InputError:
        return None


def _map(row: InspectionRow, out: Path) -> Array | None:
    path = map_path(out, row.id)
    return np.load(path, allow_pickle=False) if path.is_file() else None
