"""Functions of visual inspection: what `import pixel_reasoner` exports, and what the command line calls.

import pixel_reasoner as pr

done = pr.inspect_photos("photos", reference="golden", out="runs/check")
for row in done.rows:
    print(row.path, row.verdict, row.reason)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, with_config
from typing_extensions import TypedDict, Unpack

from pixel_reasoner.api import AnyModel, generation_model
from pixel_reasoner.schema.options import valid_options
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.inspection.engine import InspectionRun
from pixel_reasoner.workflows.inspection.spec import InspectionSpec, SpecFile, read_spec
from pixel_reasoner.workflows.inspection.spec_file import first_spec, write_spec
from pixel_reasoner.workflows.inspection.verdicts import Finding, InspectionRow, Verdict
from pixel_reasoner.workflows.inspection.workflow import (
    Inspection,
    choose_run_thresholds,
    review_run,
    run_inspection,
)

__all__ = [
    "Finding",
    "Inspection",
    "InspectionOptions",
    "InspectionRow",
    "InspectionRun",
    "InspectionSpec",
    "Verdict",
    "choose_run_thresholds",
    "first_spec",
    "inspect_photos",
    "read_spec",
    "review_run",
    "run_inspection",
    "write_spec",
]


@with_config(extra="forbid")
class InspectionOptions(TypedDict, total=False):
    """Further options of an inspection."""

    proposals: str | Path
    """folder of heat maps"""
    layout: str
    """of the data: `auto`, `mvtec`, `mvtec2`, `visa`, `realiad`, `anomalib`, `plain`"""
    split: Literal["test", "validation", "train", "all"]
    limit: PositiveInt
    """number of photos"""
    samples: PositiveInt
    """answers per question"""
    batch_size: PositiveInt
    decoys: Annotated[float, Field(ge=0, le=1)]
    """chance of a decoy per proposal"""
    workers: PositiveInt
    """threads that compare photos"""
    exports: Sequence[str]
    """formats that are written to `out/exports`"""
    report: bool
    """whether `out/report.html` is written; true by default"""
    maps: bool
    """whether maps of scores are written"""


def inspect_photos(
    data: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    reference: str | Path | None = None,
    spec: InspectionSpec | str | Path | None = None,
    model: AnyModel | None = None,
    config: RolloutConfig | None = None,
    **options: Unpack[InspectionOptions],
) -> Inspection:
    """Inspect photos of parts, or resume a run: each is ok, defect, unsure or error.

    Args:
        data: data set, folder or file, or several.
        out: folder of the run.
        reference: folder of golden pictures. None: that of the specification, or the good training photos of the data.
        spec: what a good part is, classes, tolerances and thresholds; or the path of a TOML file.
        model: looks at each place that differs. None: the score decides.
        config: limits and sampling of the model.
        **options: see `InspectionOptions`.

    Raises:
        UsageError: an unknown option, or `out` contains another run.
        InputError: no photos, or no usable golden pictures.
        OutputError: a file cannot be written.

    >>> import tempfile
    >>> from PIL import Image, ImageDraw
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name, has_dot in (("golden/1.png", False), ("photos/1.png", False), ("photos/2.png", True)):
    ...     picture = Image.new("RGB", (320, 240), "white")
    ...     draw = ImageDraw.Draw(picture)
    ...     for n in range(6):
    ...         _ = draw.rectangle((30 + 40 * n, 40 + 7 * n, 50 + 40 * n, 180 - 9 * n), fill=(20 * n, 60, 90))
    ...     if has_dot:
    ...         _ = draw.ellipse((200, 195, 212, 207), fill="red")
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     picture.save(folder / name)
    >>> done = inspect_photos(folder / "photos", reference=folder / "golden", out=folder / "run", report=False)
    >>> [(row.id, row.verdict.value) for row in done.rows]
    [('1.png', 'ok'), ('2.png', 'defect')]
    """
    valid = valid_options(InspectionOptions, options, "an option of an inspection")
    exports, report = valid.pop("exports", ()), valid.pop("report", True)
    proposals = valid.pop("proposals", None)
    paths = [data] if isinstance(data, str | Path) else list(data)
    file = _spec_file(spec)
    settings = config or RolloutConfig()
    run = InspectionRun(
        data=tuple(map(Path, paths)),
        out=Path(out),
        spec=file.spec,
        reference=Path(reference) if reference is not None else file.reference,
        heat_maps=Path(proposals) if proposals is not None else None,
        config=settings,
        **valid,
    )
    loaded = None if model is None else generation_model(model, settings)
    return run_inspection(run, loaded, exports=exports, report=report)


def _spec_file(spec: InspectionSpec | str | Path | None) -> SpecFile:
    if isinstance(spec, str | Path):
        return read_spec(Path(spec))
    return SpecFile(spec or InspectionSpec())
