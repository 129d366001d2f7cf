"""Measure the inspection on PixelWorld parts: golden references alone, a scripted model, and speed.

    .venv/bin/python benchmarks/inspection.py                        # renders parts, about 15 minutes on two cores
    .venv/bin/python benchmarks/inspection.py --parts DIR            # of `pixel-reasoner world parts --out DIR`
    .venv/bin/python benchmarks/inspection.py --seed 1000             # other parts
    .venv/bin/python benchmarks/inspection.py --only speed

Prints a table with the required values and 95 % intervals (Wilson; AUROC by 1,000 resamples of the photos):

    references alone    image AUROC; share of defects among the three largest proposals
    the same, moved     shifted, rotated and differently lit parts; photos that cannot be aligned are never a defect
    scripted model      F1 and share of defects with a box of IoU >= 0.3; it answers from the annotation
    speed               photos of 12 megapixels per second with two threads, without a model
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pixel_reasoner import api
from pixel_reasoner.inspection_api import (
    InspectionRow,
    InspectionRun,
    InspectionSpec,
    choose_run_thresholds,
    read_spec,
    run_inspection,
)
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.annotated import parts_model
from pixel_reasoner.workflows.inspection.engine import inspect_photos
from pixel_reasoner.workflows.inspection.examine import Examination, examine
from pixel_reasoner.workflows.inspection.library import GoldenLibrary, golden_paths
from pixel_reasoner.workflows.inspection.metrics import (
    f1_of_verdicts,
    image_auroc,
    iou,
    rate,
)
from pixel_reasoner.workflows.inspection.samples import Sample, picture_files
from pixel_reasoner.workflows.inspection.spec import Decision, DefectClass
from pixel_reasoner.workflows.inspection.verdicts import Verdict
from pixel_reasoner.world.parts import DEFECT_CLASSES, PartRow, read_parts

STEADY, MOVED = ("steady",), ("shifted", "rotated", "relit")
MAX_MISS_RATE = 0.1
SPEED_PHOTOS = 12
LOOK_FROM = 0.5
"""places are proposed from this score, so that a small defect is a proposal too; a model rejects the others"""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if options.only != "speed":
            parts = options.parts or _render(work / "parts", options)
            accuracy(parts, work)
        if options.only != "accuracy":
            speed(work)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=Path, help="folder of `world parts`")
    parser.add_argument("--width", type=int, default=2048, help="width of rendered photos")
    parser.add_argument("--test", type=int, default=24, help="test parts of each kind")
    parser.add_argument(
        "--seed", type=int, default=0, help="number of the first part of each split"
    )
    parser.add_argument("--only", choices=("accuracy", "speed"))
    return parser.parse_args()


def _render(out: Path, options: argparse.Namespace) -> Path:
    sizes = {"references": 8, "validation": 10, "test": options.test, "unaligned": 4}
    spec = api.PartsSpec("all", options.width, **sizes, seed=options.seed)
    print(f"rendering {spec}")
    api.render_parts(spec, out)
    return out


# --- accuracy ---


def accuracy(parts: Path, work: Path) -> None:
    annotated = {row.image: row for row in read_parts(parts)}
    sizes = sorted(one.overview_px for row in annotated.values() for one in row.defects)
    print(
        f"{len(annotated)} photos of {len({row.kind for row in annotated.values()})} kinds, "
        f"{annotated[next(iter(annotated))].size_px} pixels; {len(sizes)} defects of {sizes[0]:g} to {sizes[-1]:g} "
        f"overview pixels, median {sizes[len(sizes) // 2]:g}"
    )
    defects = {name: DefectClass() for name in DEFECT_CLASSES}
    spec = InspectionSpec(defects=defects, decision=Decision(look_from=LOOK_FROM))
    validation = InspectionRun(
        data=(parts,), out=work / "validation", spec=spec, split="validation"
    )
    chosen, path = choose_run_thresholds(validation, MAX_MISS_RATE)
    spec = read_spec(path).spec.model_copy(
        update={"decision": chosen.decision.model_copy(update={"look_from": LOOK_FROM})}
    )
    print(f"threshold {chosen.decision.defect_from:g}: {chosen.decision.origin}")
    print(f"on these photos: miss rate {chosen.miss}; overkill {chosen.overkill}\n")
    rows = run_inspection(
        InspectionRun(data=(parts,), out=work / "alone", spec=spec), report=False
    ).rows
    print("| measure | value | floor |\n| --- | --- | --- |")
    for title, conditions, floor in (
        ("references alone", STEADY, 0.95),
        ("moved or lit", MOVED, 0.9),
    ):
        some = [row for row in rows if annotated[row.id].condition in conditions]
        name = f"{title}: image AUROC ({len(some)} photos)"
        _line(name, _auroc(some), floor, interval=_auroc_interval(some))
        _share(f"{title}: defect among the top three proposals", _top_three(some, annotated), floor)
    _rates(rows)
    _unaligned(parts, spec, work)
    _scripted(parts, spec, annotated, work)


def _auroc(rows: Iterable[InspectionRow]) -> float | None:
    scored = [row for row in rows if row.score is not None]
    return image_auroc(
        [row.label == "defect" for row in scored], [row.score or 0.0 for row in scored]
    )


def _auroc_interval(rows: list[InspectionRow]) -> str:
    """Return the 95 % interval of resampled photos."""
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        value = _auroc([rows[number] for number in rng.integers(len(rows), size=len(rows))])
        found += [] if value is None else [value]
    low, high = np.quantile(found, (0.025, 0.975))
    return f" ({low:.3f} to {high:.3f})"


def _top_three(rows: Iterable[InspectionRow], annotated: dict[str, PartRow]) -> list[bool]:
    return [
        any(one.box.intersection(defect.box) > 0 for one in row.proposals[:3])
        for row in rows
        for defect in annotated[row.id].defects
    ]


def _rates(rows: Iterable[InspectionRow]) -> None:
    listed = list(rows)
    good = [row.verdict for row in listed if row.label == "good"]
    bad = [row.verdict for row in listed if row.label == "defect"]
    print(f"| overkill at the chosen threshold | {rate(good.count(Verdict.DEFECT), len(good))} | |")
    print(f"| miss rate at the chosen threshold | {rate(bad.count(Verdict.OK), len(bad))} | |")
    unaligned = sum(row.reason.startswith("not aligned") for row in listed)
    print(f"| photos that can be aligned and were not | {rate(unaligned, len(listed))} | |")


def _unaligned(parts: Path, spec: InspectionSpec, work: Path) -> None:
    verdicts: list[Verdict] = []
    for folder in sorted(parts.glob("*/unaligned")):
        run = InspectionRun(
            data=(folder,),
            out=work / f"unaligned-{folder.parent.name}",
            spec=spec,
            reference=folder.parent / "train" / "good",
            layout="plain",
        )
        verdicts += [Verdict(row["verdict"]) for row in inspect_photos(run)]
    _line(
        f"misaligned and wrong parts ({len(verdicts)}) that are called defect",
        verdicts.count(Verdict.DEFECT),
        0,
        at_most=True,
    )


def _scripted(parts: Path, spec: InspectionSpec, annotated: dict[str, PartRow], work: Path) -> None:
    run = InspectionRun(data=(parts,), out=work / "model", spec=spec)
    rows = run_inspection(run, parts_model(parts), report=False).rows
    _line("scripted model: F1", f1_of_verdicts((row.label, row.verdict) for row in rows), 0.97)
    best = [
        max((iou(one.box, _box(defect)) for one in row.findings), default=0.0)
        for row in rows
        for defect in annotated[row.id].defects
    ]
    _share("scripted model: box with IoU >= 0.3", [one >= 0.3 for one in best], 0.95)
    print(f"| scripted model: median IoU | {np.median(best):.2f} | |\n")
    for row in rows:
        defect = next(iter(annotated[row.id].defects), None)
        is_right = (row.verdict is Verdict.DEFECT) == (row.label == "defect")
        overlap = (
            max((iou(one.box, _box(defect)) for one in row.findings), default=0.0)
            if defect
            else 1.0
        )
        if not is_right or overlap < 0.3:
            size = f", {defect.overview_px:g} overview pixels" if defect else ""
            print(
                f"{row.id} ({annotated[row.id].condition}{size}): {row.verdict.value}, {row.reason}, IoU {overlap:.2f}"
            )


def _box(defect: object) -> Box:
    return defect.box  # type: ignore[attr-defined]


def _share(title: str, hits: list[bool], floor: float) -> None:
    shown = str(rate(sum(hits), len(hits)))
    _line(title, sum(hits) / len(hits), floor, interval=f" ({shown})")


def _line(
    title: str,
    value: float | None,
    floor: float,
    *,
    at_most: bool = False,
    interval: str = "",
) -> None:
    shown = "n/a" if value is None else f"{value:.3f}{interval}"
    is_met = value is not None and (value <= floor if at_most else value >= floor)
    print(
        f"| {title} | {shown}{'' if is_met else ' (below)'} | {'<=' if at_most else '>='} {floor:g} |"
    )


# --- speed ---


def speed(work: Path) -> None:
    spec = api.PartsSpec("board", 4000, references=4, validation=0, test=6, unaligned=0)
    folder = work / "large"
    print(f"rendering {spec}")
    api.render_parts(spec, folder)
    root = folder / "board"
    photos = [path for one in sorted((root / "test").iterdir()) for path in picture_files(one)]
    for suffix in ("jpg", "png"):
        paths = _copies(photos, work / suffix, suffix)
        library = GoldenLibrary(golden_paths(root / "train" / "good", ()), InspectionSpec())
        start = time.perf_counter()
        library.check()
        golden_s = time.perf_counter() - start
        how = Examination(spec=InspectionSpec(), out=work / "run", library=library)
        samples = [Sample(path.name, path, view="C1") for path in paths]
        start = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(partial(examine, how=how), samples))
        seconds = time.perf_counter() - start
        assert not any(one.error for one in found)
        print(
            f"{suffix}: {len(found) / seconds:.2f} photos of {found[0].size} per second, two threads (floor 4); "
            f"4 golden pictures in {golden_s:.1f} s; smallest defect {found[0].smallest_px:g} px"
        )


def _copies(photos: list[Path], folder: Path, suffix: str) -> list[Path]:
    folder.mkdir()
    written = []
    for number in range(SPEED_PHOTOS):
        path = folder / f"{number}.{suffix}"
        with Image.open(photos[number % len(photos)]) as picture:
            picture.save(path, **({"quality": 92} if suffix == "jpg" else {"compress_level": 4}))
        written.append(path)
    return written


if __name__ == "__main__":
    main()
