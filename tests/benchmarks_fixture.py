"""Small folders in the official layout of every benchmark, for tests.

`write(layout, folder)` writes one; `LAYOUTS` contains the benchmark and the expected first question of each layout.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image, ImageDraw
from pyarrow import parquet

from pixel_reasoner.schema.question import AnswerType

SIZE = (200, 100)


def picture(shade: int = 0, form: str = "PNG") -> bytes:
    """Return a picture of 200 x 100 px with a mark. Each shade gives another picture."""
    image = Image.new("RGB", SIZE, (shade, 120, 200))
    ImageDraw.Draw(image).rectangle((20, 20, 40, 40), fill="white")
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def base64_of(shade: int = 0) -> str:
    return base64.b64encode(picture(shade, "JPEG")).decode()


def _picture_file(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(shade, "JPEG" if path.suffix in (".jpg", ".jpeg") else "PNG"))


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _parquet(path: Path, rows: list[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)


def tsv(path: Path, rows: list[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def _clip(path: Path) -> None:
    import av
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(16):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 15, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


# --- the layouts ---


def vstar_jsonl(folder: Path) -> None:
    rows = [
        {
            "question_id": 1,
            "image": "direct_attributes/sa_1.jpg",
            "text": "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\nAnswer with the option's letter from the given choices directly.",
            "category": "direct_attributes",
            "label": "B",
        },
        {
            "question_id": 2,
            "image": "relative_position/sa_2.jpg",
            "text": "Is the dog left or right of the car?\n(A) left\n(B) right\nAnswer with the option's letter from the given choices directly.",
            "category": "relative_position",
            "label": "A",
        },
    ]
    (folder / "test_questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _picture_file(folder / "direct_attributes/sa_1.jpg", 1)
    _picture_file(folder / "relative_position/sa_2.jpg", 2)
    _json(
        folder / "direct_attributes/sa_1.json",
        {"target_object": ["glove"], "bbox": [[20, 20, 20, 20]]},
    )


def vstar_folders(folder: Path) -> None:
    for kind, target in (("direct_attributes", ["glove"]), ("relative_position", ["dog", "car"])):
        _picture_file(folder / kind / "sa_1.jpg", len(target))
        _json(
            folder / kind / "sa_1.json",
            {
                "target_object": target,
                "bbox": [[20, 20, 20, 20]] * len(target),
                "question": "What is the colour of the glove?",
                "options": ["green.", "red.", "blue.", "white."],
            },
        )


def _hrbench(size: str) -> list[dict[str, Any]]:
    colors = ["red", "green", "blue", "white"]
    return [
        {
            "index": 4 * question + cycle,
            "question": "What colour is the sign?",
            "answer": "ABCD"[cycle],
            "category": ("single", "cross")[question],
            **dict(zip("ABCD", colors[-cycle:] + colors[:-cycle], strict=True)),
            "cycle_category": cycle,
            "image": base64_of(question),
        }
        for question in range(2)
        for cycle in range(4)
    ]


def hrbench_tsv(folder: Path) -> None:
    tsv(folder / "hr_bench_4k.tsv", _hrbench("4k"))


def hrbench_parquet(folder: Path) -> None:
    _parquet(folder / "hr_bench_8k.parquet", _hrbench("8k"))


def tallyqa(folder: Path) -> None:
    _json(
        folder / "test.json",
        [
            {
                "image": "VG_100K_2/1.jpg",
                "answer": 3,
                "data_source": "imported_genome",
                "image_id": 1,
                "question": "How many people wear a hat?",
                "question_id": 10,
                "issimple": False,
            },
            {
                "image": "VG_100K_2/1.jpg",
                "answer": 5,
                "data_source": "imported_vqa",
                "image_id": 1,
                "question": "How many people are there?",
                "question_id": 11,
                "issimple": True,
            },
        ],
    )
    _picture_file(folder / "VG_100K_2/1.jpg")


def infographics_json(folder: Path) -> None:
    _json(
        folder / "infographicsVQA_val_v1.0_withQT.json",
        {
            "dataset_name": "infographicVQA",
            "dataset_split": "val",
            "data": [
                {
                    "questionId": 98313,
                    "question": "Which country exports most?",
                    "image_local_name": "38931.jpeg",
                    "image_url": "http://x/y",
                    "ocr_output_file": "38931.json",
                    "answers": ["Bangladesh", "bangladesh"],
                    "answer_type": ["single span"],
                    "data_split": "val",
                }
            ],
        },
    )
    _picture_file(folder / "images/38931.jpeg")


def docvqa_json(folder: Path) -> None:
    _json(
        folder / "val_v1.0_withQT.json",
        {
            "data": [
                {
                    "questionId": 49153,
                    "question": "What is the actual value per 1000?",
                    "question_types": ["figure/diagram"],
                    "image": "documents/pybv0228_81.png",
                    "docId": 1,
                    "answers": ["0.28"],
                    "data_split": "val",
                }
            ]
        },
    )
    _picture_file(folder / "documents/pybv0228_81.png")


def docvqa_parquet(folder: Path) -> None:
    _parquet(
        folder / "DocVQA/validation-00000-of-00001.parquet",
        [
            {
                "questionId": "49153",
                "question": "What is the actual value per 1000?",
                "question_types": ["figure/diagram"],
                "image": {"bytes": picture(), "path": None},
                "docId": 1,
                "answers": ["0.28"],
                "data_split": "val",
            }
        ],
    )


def chartqa_json(folder: Path) -> None:
    for kind in ("human", "augmented"):
        row = {"imgname": "1.png", "query": "What is the highest value?", "label": "14"}
        _json(folder / f"test/test_{kind}.json", [row])
    _picture_file(folder / "test/png/1.png")


def chartqa_parquet(folder: Path) -> None:
    row = {"question": "What is the highest value?", "answer": "14"}
    pictures = {"image": {"bytes": picture(), "path": None}}
    _parquet(
        folder / "data/test-00000-of-00001.parquet",
        [{"type": f"{kind}_test", **row, **pictures} for kind in ("human", "augmented")],
    )


def mvbench(folder: Path) -> None:
    row = {"question": "What happened?", "candidates": ["He sat.", "He ran."], "answer": "He ran."}
    bounds = {"start": 0.5, "end": 1.5}
    _json(folder / "json/action_sequence.json", [{"video": "ZS9XR.mp4", **row, **bounds}])
    _json(folder / "json/moving_count.json", [{"video": "video_1.mp4", **row}])
    _json(folder / "json/episodic_reasoning.json", [{"video": "friends_s01", **row, **bounds}])
    _json(folder / "json/fine_grained_pose.json", [{"video": "S001.avi", **row}])
    _clip(folder / "video/star/Charades_v1_480/ZS9XR.mp4")
    _clip(folder / "video/clevrer/elsewhere/video_1.mp4")
    for number in range(1, 7):
        _picture_file(folder / f"video/tvqa/frames_fps3_hq/friends_s01/{number:05}.jpg", number)


def treebench(folder: Path) -> None:
    row = {
        "index": 0,
        "image": base64_of(),
        "question": "What is written on the sign?",
        "A": "EXIT",
        "B": "STOP",
        "C": "",
        "answer": "B",
        "category": "Perception/OCR",
        "target_instances": "[[20, 20, 40, 40]]",
    }
    tsv(folder / "TreeBench.tsv", [row])


def visualprobe(folder: Path) -> None:
    row = {"problem": "<image>What is the number on the door?", "images": ["data/1.jpg"]}
    _json(folder / "VisualProbe_Hard/val.json", [{**row, "solution": "47"}])
    _picture_file(folder / "VisualProbe_Hard/data/1.jpg")


def mme_parquet(folder: Path) -> None:
    options = [
        "(A) red",
        "(B) blue",
        "(C) green",
        "(D) white",
        "(E) The image does not feature it.",
    ]
    row = {
        "index": 7,
        "bytes": base64_of(),
        "question": "What is the colour of the car?",
        "multi-choice options": options,
        "answer": "E",
        "category": "Perception",
        "l2-category": "Monitoring",
    }
    _parquet(folder / "data/train-00000-of-00001.parquet", [row])


def mme_tsv(folder: Path) -> None:
    row = {
        "index": 7,
        "image": base64_of(),
        "question": "What is the colour of the car?",
        **dict(zip("ABCDE", ("red", "blue", "green", "white", "none"), strict=True)),
        "answer": "E",
        "category": "Perception",
        "l2-category": "Monitoring",
    }
    tsv(folder / "MME-RealWorld-Lite.tsv", [row])


def blink(folder: Path) -> None:
    row = {
        "idx": "val_Counting_1",
        "sub_task": "Counting",
        "question": "How many blue floats are there?",
        "image_1": {"bytes": picture(1), "path": None},
        "image_2": {"bytes": picture(2), "path": None},
        "image_3": None,
        "image_4": None,
        "choices": ["0", "3", "2", "1"],
        "answer": "(D)",
        "prompt": "How many blue floats are there?\nSelect from the following choices.\n(A) 0\n(B) 3\n(C) 2\n(D) 1",
    }
    _parquet(folder / "Counting/val-00000-of-00001.parquet", [row])


def videomme(folder: Path) -> None:
    row = {
        "video_id": "001",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "url": "https://x/y",
        "videoID": "fFjv93ACGo8",
        "question_id": "001-1",
        "task_type": "Counting Problem",
        "question": "How many apples are there?",
        "options": ["A. Three.", "B. Five."],
        "answer": "B",
    }
    _parquet(folder / "videomme/test-00000-of-00001.parquet", [row])
    _clip(folder / "data/fFjv93ACGo8.mp4")


def released(folder: Path) -> None:
    row = {
        "qid": "VStar-1",
        "question": "<image>\nWhat is the colour?\n(A) red\n(B) blue",
        "image": ["images/1.png"],
        "answer": "A",
        "is_video": False,
    }
    _parquet(folder / "vstar.parquet", [row])
    _picture_file(folder / "images/1.png")


def neutral(folder: Path) -> None:
    row = {
        "id": "mine-1",
        "benchmark": "mine",
        "media": [{"type": "image", "path": "1.png"}],
        "question": "What is the colour?",
        "options": {"A": "red", "B": "blue"},
        "answer": "B",
        "answer_type": "mcq",
        "boxes": [[20, 20, 40, 40]],
        "group": "scene-1",
        "category": "colour",
    }
    (folder / "mine.jsonl").write_text(json.dumps(row) + "\n")
    _picture_file(folder / "1.png")


def insight(folder: Path) -> None:
    row = {
        "question_id": "o3-1",
        "image": "1.png",
        "subset": "chart",
        "question": "What is the colour?",
        "options": "A. red\nB. blue\nF. No right choice",
        "answer": "B",
    }
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    _picture_file(folder / "1.png")


def any_tsv(folder: Path) -> None:
    first = {"index": 0, "image": base64_of(), "question": "Which?", "A": "red", "B": "blue"}
    rows = [
        {**first, "answer": "A", "category": "colour", "l2-category": "sight"},
        {**first, "index": 1, "image": "0", "answer": "B", "category": "", "l2-category": ""},
        {
            **{**first, "A": "", "B": ""},
            **{"index": 2, "image": "0", "answer": "4", "category": "", "l2-category": ""},
        },
    ]
    tsv(folder / "mine.tsv", rows)


class Layout(NamedTuple):
    """Layout: its benchmark, the function that writes it, and its expected first question."""

    task: str
    write: Callable[[Path], None]
    count: int
    first: dict[str, Any]
    dropped: dict[str, int] = {}  # noqa: RUF012


CHOICE = AnswerType.CHOICE
LAYOUTS = {
    "vstar_jsonl": Layout(
        "vstar",
        vstar_jsonl,
        2,
        {
            "id": "vstar-1",
            "text": "What is the material of the glove?\nA. rubber\nB. cotton\nC. kevlar\nD. leather",
            "answer": ("B",),
            "answer_type": CHOICE,
            "category": "direct_attributes",
        },
    ),
    "vstar_folders": Layout(
        "vstar", vstar_folders, 2, {"id": "vstar-direct_attributes-sa_1", "answer_type": CHOICE}
    ),
    "hrbench_tsv": Layout(
        "hrbench-4k",
        hrbench_tsv,
        8,
        {
            "id": "hrbench-4k-0",
            "answer": ("A",),
            "options": {"A": "red", "B": "green", "C": "blue", "D": "white"},
            "category": "single",
            "labels": {"cycle": "0"},
        },
    ),
    "hrbench_parquet": Layout("hrbench-8k", hrbench_parquet, 8, {"id": "hrbench-8k-0"}),
    "tallyqa": Layout(
        "tallyqa-complex",
        tallyqa,
        1,
        {
            "id": "tallyqa-10",
            "text": "How many people wear a hat?\nAnswer the question using a single number.",
            "answer": ("3",),
            "answer_type": AnswerType.INTEGER,
        },
    ),
    "tallyqa_simple": Layout("tallyqa-simple", tallyqa, 1, {"id": "tallyqa-11", "answer": ("5",)}),
    "infographics_json": Layout(
        "infographicsvqa",
        infographics_json,
        1,
        {
            "id": "infographicsvqa-98313",
            "answer": ("Bangladesh", "bangladesh"),
            "answer_type": AnswerType.ANLS,
            "category": "single span",
        },
    ),
    "docvqa_json": Layout(
        "docvqa", docvqa_json, 1, {"id": "docvqa-49153", "category": "figure/diagram"}
    ),
    "docvqa_parquet": Layout(
        "docvqa", docvqa_parquet, 1, {"id": "docvqa-49153", "answer": ("0.28",)}
    ),
    "chartqa_json": Layout(
        "chartqa",
        chartqa_json,
        2,
        {"id": "chartqa-augmented-0", "answer_type": AnswerType.RELAXED, "category": "augmented"},
    ),
    "chartqa_parquet": Layout("chartqa", chartqa_parquet, 2, {"category": "human"}),
    "mvbench": Layout(
        "mvbench",
        mvbench,
        3,
        {
            "id": "mvbench-action_sequence-0",
            "text": "What happened?\nA. He sat.\nB. He ran.",
            "answer": ("B",),
            "category": "action_sequence",
        },
        {"missing_file": 1},
    ),
    "treebench": Layout(
        "treebench",
        treebench,
        1,
        {"id": "treebench-0", "answer": ("B",), "options": {"A": "EXIT", "B": "STOP"}},
    ),
    "visualprobe": Layout(
        "visualprobe",
        visualprobe,
        1,
        {"id": "visualprobe-hard-1", "answer": ("47",), "category": "hard"},
    ),
    "mme_parquet": Layout(
        "mme-realworld",
        mme_parquet,
        1,
        {
            "id": "mme-realworld-7",
            "answer": ("E",),
            "category": "Perception",
            "labels": {"domain": "Monitoring"},
        },
    ),
    "mme_tsv": Layout("mme-realworld-lite", mme_tsv, 1, {"id": "mme-realworld-lite-7"}),
    "blink": Layout(
        "blink",
        blink,
        1,
        {"id": "blink-val_Counting_1", "answer": ("D",), "category": "Counting"},
    ),
    "videomme": Layout(
        "videomme",
        videomme,
        1,
        {
            "id": "videomme-001-1",
            "answer": ("B",),
            "options": {"A": "Three.", "B": "Five."},
            "category": "short",
            "labels": {"domain": "Knowledge", "task_type": "Counting Problem"},
        },
    ),
    "released": Layout(
        "released",
        released,
        1,
        {"id": "VStar-1", "answer": ("A",), "answer_type": CHOICE, "category": "VStar"},
    ),
    "neutral": Layout("jsonl", neutral, 1, {"id": "mine-1", "answer": ("B",), "group": "scene-1"}),
    "insight": Layout("jsonl", insight, 1, {"id": "o3-1", "answer": ("B",), "category": "chart"}),
    "any_tsv": Layout(
        "tsv",
        any_tsv,
        3,
        {"id": "mine-0", "answer": ("A",), "category": "colour", "labels": {"domain": "sight"}},
    ),
}
"""by name"""


def write(name: str, folder: Path) -> Path:
    """Write a layout into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    LAYOUTS[name].write(folder)
    return folder
