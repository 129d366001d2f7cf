"""MVBench (arXiv 2311.17005): 20 tasks about short clips. Some tasks use a part of a clip; some clips are folders of frames.

Videos of `fine_grained_pose` (NTU RGB+D) are available from their owners on request. Without them its 200 rows are
dropped as `missing_file`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import (
    choice,
    files_below,
    index_files,
    json_rows,
    question,
)
from pixel_reasoner.files import path_exists
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.cells import (
    check_values,
    is_missing,
    letter_options,
    parse_number,
    parse_text,
)
from pixel_reasoner.sources.rows import RowError, SkippedRow

BOUNDED = (
    "action_sequence",
    "action_prediction",
    "action_localization",
    "object_interaction",
    "episodic_reasoning",
)
"""tasks about a part of a clip, from `start` to `end`"""
FRAMES_FPS = 3.0
"""frame rate of the folders of frames (TVQA)"""
FOLDERS = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
"""folder of a task's videos in the official archives, below `video`"""


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of `json/<task>.json`."""
    del media
    for path in files_below(data, "json/*.json"):
        for number, row in enumerate(json_rows(path)):
            yield RowDraft(
                f"{path.name}, row {number}", partial(_question, path.stem, number, row, data)
            )


def _question(task: str, number: int, row: dict[str, Any], data: Path) -> Question:
    check_values(row, ("video", "question", "candidates", "answer"))
    return question(
        id=f"mvbench-{task}-{number}",
        media=(_clip(task, row, data),),
        category=task,
        **choice(row["question"], letter_options(row["candidates"]), row["answer"], given="text"),
    )


def _clip(task: str, row: dict[str, Any], data: Path) -> MediaItem:
    name = parse_text(row["video"], "video")
    path = _where(task, name, data)
    kind = "frames" if path.is_dir() else "video"
    part: dict[str, Any] = {}
    if task in BOUNDED:
        given = {key: row[key] for key in ("start", "end") if not is_missing(row.get(key))}
        part = {f"{key}_s": parse_number(value, key) for key, value in given.items()}
    if kind == "frames" and part:
        part["fps"] = FRAMES_FPS
    return MediaItem(kind=kind, path=str(path), **part)


def _where(task: str, name: str, data: Path) -> Path:
    """Return the path of a clip: at its official place, or else anywhere below the folder."""
    for place in ("video", "."):
        path = data / place / FOLDERS.get(task, "") / name
        if path_exists(path):
            return path
    anywhere = index_files(data).get(Path(name).name)
    if anywhere is None:
        raise RowError(
            "missing_file", f"expected video/{FOLDERS.get(task, task)}/{name} below {data}"
        )
    return anywhere


register_benchmarks(
    Benchmark(
        name="mvbench",
        measures="20 tasks about time in short clips",
        files="json/<task>.json, and the clips below video/",
        rows="4,000 (20 x 200)",
        metric="accuracy",
        read=read,
        categories=tuple(FOLDERS),
        needs="fine_grained_pose: clips of NTU RGB+D, from their owners",
        hub="OpenGVLab/MVBench",
    ),
)
