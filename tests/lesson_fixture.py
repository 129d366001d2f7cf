"""Lessons for tests: of a PixelWorld level, and of traces with every kind of mistake."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import StopReason, Trace, save_traces
from report_fixture import (
    answer,
    draw_scene,
    picture_trace,
    rejected_zoom,
    video_trace,
    write_clip,
    zoom,
)

RIGHT = Box(0.2, 0.25, 0.3, 0.36)
WRONG = Box(0.7, 0.6, 0.9, 0.8)


def lesson_traces(folder: Path) -> dict[str, Trace]:
    """Return traces with media in a folder: right, with mistakes, and unusable ones."""
    scene = draw_scene(folder / "scene.png")
    gone = draw_scene(folder / "gone.png")
    look = zoom(2, RIGHT)

    def about(name: str) -> dict[str, str]:
        return {"about": {"id": name}}

    traces = {
        "right": picture_trace(scene, look, answer("6"), answer="6", **about("right")),
        "corrected": picture_trace(
            scene, zoom(2, WRONG), zoom(3, RIGHT), answer("6"), answer="6", **about("corrected")
        ),
        "wrong answer": picture_trace(scene, look, answer("8"), answer="8", **about("wrong")),
        "refused": picture_trace(
            scene, rejected_zoom(), look, answer("6"), answer="6", **about("refused")
        ),
        "clip": video_trace(write_clip(folder / "clip.mp4")),
        "no operation": picture_trace(scene, answer("6"), answer="6", **about("none")),
        "missing media": picture_trace(gone, look, answer("6"), answer="6", **about("gone")),
    }
    gone.unlink()
    return traces


def write_run(folder: Path) -> Path:
    """Write a run with these traces, a broken line, and answers without operations."""
    traces = lesson_traces(folder)
    save_traces(traces.values(), folder / "traces.jsonl")
    with (folder / "traces.jsonl").open("a") as file:
        file.write(traces["right"].to_line()[:-1] + ', "no_such_key": 1}\n')
    (folder / "without").mkdir()
    without = picture_trace(
        folder / "scene.png",
        answer("3"),
        answer="3",
        about={"id": "right"},
        stop=StopReason.ANSWERED,
    )
    save_traces([without], folder / "without" / "traces.jsonl")
    return folder


def write_rows(folder: Path) -> Path:
    """Write own rows: two usable ones, and one of each kind that is not."""
    Image.new("RGB", (800, 600), "#e8e4da").save(folder / "desk.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    row = {"image": "desk.png", "question": "What does the note say?", "answer": "Exit"}
    rows = [
        {**row, "id": "a", "boxes": [[100, 100, 180, 150]]},
        {**row, "id": "b", "boxes": [[500, 300, 580, 360]], "subjects": ["the note"]},
        {**row, "id": "c"},
        {**row, "id": "d", "colour": "red"},
        {**row, "id": "e", "image": "none.png", "boxes": [[1, 1, 9, 9]]},
        {**row, "id": "f", "image": "broken.png", "boxes": [[1, 1, 9, 9]]},
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path
