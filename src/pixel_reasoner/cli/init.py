"""Command `init`: template files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_reasoner.cli.choices import TEMPLATES, choice_argument
from pixel_reasoner.cli.options import reject_options
from pixel_reasoner.cli.output import print_line
from pixel_reasoner.errors import OutputError

if TYPE_CHECKING:
    from pixel_reasoner.api import Question

_NEXT = {
    "sft": "pixel-reasoner train sft {path}",
    "rl": "pixel-reasoner train rl {path} --plan --gpus 1",
    "rows": "pixel-reasoner synth jsonl --data {path} --out runs/mine",
    "survey": "pixel-reasoner survey PICTURES --questions {path} --out runs/survey",
    "inspect": "pixel-reasoner inspect PHOTOS --spec {path} --out runs/inspect",
}
"""template -> command that uses the file"""
_ROW_COMMENT = """\
# Rows of questions about pictures and clips, one JSON object per line, for
#   pixel-reasoner synth jsonl --data {name} --out runs/mine
#
# id            text; unique
# media         list of {{"type": "image", "video" or "frames", "path": ..., "start": seconds, "end": seconds}}; paths are
#               relative to the file and inside its folder; or one of image, images, video, videos with paths only
# question      text
# answer        text, number, or a list of accepted ones; with options the letter
# options       {{"A": text, "B": text, ...}}
# answer_type   choice, integer, number, text, list, anls or relaxed [default: choice with options, else text]
# image         number of the picture that contains the evidence, from 1 [default: 1]
# boxes         evidence: list of [x1, y1, x2, y2] in pixels of that picture
# box_unit      unit of boxes: pixel, fraction or permille [default: pixel]; box_format: xyxy or xywh [default: xyxy]
# frames        evidence in a clip: list of frame numbers, out of the 16 sampled frames
# frame_base    number of the first frame, 0 or 1 [default: 1]
# times         evidence in a clip, instead of frames: seconds from its start
# subjects      name of the object in each box or frame; findings: what each box or frame shows
# needs_look    false if the overview is sufficient; reasoning: how the answer follows then
# category      group of rows in tables
"""


def init(
    template: Annotated[str, choice_argument(TEMPLATES, "a template", help="Which file to write.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The file [default: sft.toml, rl.toml, survey.toml, inspect.toml or rows.jsonl in this folder]",
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="inspect: photos whose classes and golden pictures it names.",
        ),
    ] = None,
) -> None:
    """Write a commented template: a training run, rows for `synth`, questions for `survey`, or an inspection.

    An existing file is never replaced.

    Examples:
        pixel-reasoner init sft

        pixel-reasoner init rl --out runs/rl.toml

        pixel-reasoner init rows --out data/rows.jsonl

        pixel-reasoner init survey

        pixel-reasoner init inspect --from parts/plate --out plate.toml
    """
    reject_options(["--from"] if photos and template != "inspect" else [], f"with {template}")
    path = out or Path("rows.jsonl" if template == "rows" else f"{template}.toml")
    if template == "inspect":
        written = _write_inspection(path, photos)
    else:
        written = _write_rows(path) if template == "rows" else _write_run(path, template)
    for one in written:
        print_line(f"Written: {one}")
    print_line(f"Next: {_NEXT[template].format(path=path)}")


def _write_run(path: Path, template: str) -> list[Path]:
    text = (Path(__file__).parent / "templates" / f"{template}.toml").read_text(encoding="utf-8")
    return _write_new({path: text})


def _write_inspection(path: Path, photos: Path | None) -> list[Path]:
    from pixel_reasoner import inspection_api

    _reject_existing([path])
    spec = inspection_api.InspectionSpec()
    if photos is not None:
        spec = inspection_api.first_spec(photos, path)
    inspection_api.write_spec(spec, path)
    return [path]


def _write_rows(path: Path) -> list[Path]:
    """Write two rows about pictures of PixelWorld, and a comment file next to them, because JSONL has no comments."""
    from pixel_reasoner.sources.boxes import picture_size
    from pixel_reasoner.world import render, scenes

    comment = path.with_suffix(".txt")
    _reject_existing([path, comment])
    overview, detail = render(scenes("attribute", "train", 0, 2), path.parent)
    assert detail.evidence is not None
    width, height = picture_size(path.parent / detail.media[0].path)
    rows = [
        {
            **_row(detail),
            "needs_look": True,
            "image": 1,
            "boxes": [
                [round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)]
                for x0, y0, x1, y1 in detail.evidence.boxes
            ],
            "subjects": detail.evidence.subjects,
            "findings": detail.evidence.findings,
        },
        {**_row(overview), "needs_look": False, "reasoning": overview.reasoning},
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return _write_new({path: lines, comment: _ROW_COMMENT.format(name=path)})


def _row(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "media": [{"type": "image", "path": question.media[0].path}],
        "question": question.text,
        "answer": list(question.answer),
    }


def _write_new(files: dict[Path, str]) -> list[Path]:
    from pixel_reasoner.files import atomic_writer

    _reject_existing(list(files))
    for path, text in files.items():
        with atomic_writer(path) as file:
            file.write(text)
    return list(files)


def _reject_existing(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise OutputError(
                expected="the name of a new file",
                got=f"{path}, which already exists",
                fix="choose another one with --out",
            )
