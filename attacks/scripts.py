"""Run the scripts in `runs/` and the commands of README unchanged, on small data and a small random model.

    python -m attacks.scripts --count 2 --seed 0

The attack copies `runs/` to a folder with wrappers in `.venv/bin`: `torchrun` runs one process, and `pixel-reasoner` gets
smaller counts (`--count`, `--scale`). The scripts are not changed. The model is a Qwen2.5-VL with random weights instead of the hub
model. The labeller is `tests/labeller_server.py`. Settings of RL files that need a GPU (vLLM, 16 bits) are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]
MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
WRAPPER = """#!{python}
import os, sys
words = sys.argv[1:]
if sys.argv[0].endswith("torchrun"):
    words = words[words.index("pixel_reasoner.cli") + 1:]
for n, word in enumerate(words):
    if word == "--count":
        words[n + 1] = str(min(int(words[n + 1]), {count}))
    if word == "--workers":
        words[n + 1] = "1"
if words[:2] == ["train", "tiny"]:
    words += ["--scale", "0.001", "--steps", "2", "--batch-share", "0.1"]
os.execv(sys.executable, [sys.executable, "-m", "pixel_reasoner.cli", *words])
"""
SMALL_SFT = {"batch_size": 2, "max_steps": 2, "bf16": "false", "save_steps": 1}
SMALL_RL = {
    **{"questions_per_sync": 2, "group_size": 2, "minibatch": 4, "rollouts_at_once": 4},
    **{"max_turns": 2, "max_new_tokens": 8, "max_completion_length": 600, "bf16": "false"},
    **{"num_train_epochs": 1, "save_steps": 1, "lora_rank": 4},
}


def build_tree(root: Path, count: int) -> None:
    """Copy `runs/` with smaller TOML files, and write the wrappers and the model."""
    shutil.copytree(ROOT / "runs", root / "runs", ignore=shutil.ignore_patterns("ablation"))
    for path in (root / "runs").glob("*.toml"):
        path.write_text(smaller(path.read_text(), SMALL_RL if "rl-" in path.name else SMALL_SFT))
    (root / ".venv" / "bin").mkdir(parents=True)
    for name in ("pixel-reasoner", "torchrun"):
        path = root / ".venv" / "bin" / name
        path.write_text(WRAPPER.format(python=sys.executable, count=count))
        path.chmod(0o755)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    write_model(root / MODEL)
    (root / "runs" / "Qwen").symlink_to(root / "Qwen")


def smaller(toml: str, sizes: dict[str, object]) -> str:
    """Return a run file with smaller sizes and without vLLM."""
    toml = re.sub(r"^\[vllm\]\n(.+\n)*", "", toml, flags=re.M)
    for name, value in sizes.items():
        toml = re.sub(rf"^{name} = [^#\n]*", f"{name} = {value} ", toml, flags=re.M)
    return toml


def write_model(folder: Path) -> None:
    """Write a Qwen2.5-VL with random weights. Only its config and its name select the dialect."""
    from real_size import build

    build("toy", folder, "cpu")
    (folder / "pixel_reasoner.json").unlink()


def write_data(data: Path, count: int) -> None:
    """Write `count` rows of each data set that `full.sh` reads."""
    import pyarrow as pa
    from PIL import Image
    from pyarrow import parquet

    from pixel_reasoner.world import encode_clip, render, scenes
    from sa1b_fixture import draw_sa1b

    draw_sa1b(data / "sa1b", pictures=count, cards=1)
    questions = list(render(scenes("attribute", "train", 0, 8 * count), data / "rl"))
    questions = [one for one in questions if one.needs_look][: max(2, count)]
    files = [data / "rl" / one.media[0].path for one in questions]
    visa = {
        "question": [one.text for one in questions],
        "short_answer": [one.answer[0] for one in questions],
        "bounding_box": [
            pixels(one.evidence.boxes[0], file) for one, file in zip(questions, files, strict=True)
        ],
        "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
    }
    (data / "visa").mkdir()
    parquet.write_table(pa.table(visa), data / "visa" / "train.parquet")
    rl = {
        "question": [one.text for one in questions],
        "answer": [list(one.answer) for one in questions],
        "image": [[one.media[0].path] for one in questions],
        "qid": [one.id for one in questions],
        "is_video": [False] * len(questions),
    }
    parquet.write_table(pa.table(rl), data / "rl" / "release.parquet")
    (data / "star").mkdir()
    clip = encode_clip([Image.new("RGB", (64, 48), (3 * n, 0, 0)) for n in range(64)])
    (data / "star" / "ABC.mp4").write_bytes(clip)
    rows = [situation(number) for number in range(count)]
    (data / "star" / "STAR_train.json").write_text(json.dumps(rows))


def situation(number: int) -> dict[str, object]:
    """Return a situation of STAR."""
    return {
        "question_id": f"Interaction_{number}",
        "video_id": "ABC",
        "start": 2.0,
        "end": 6.0,
        "question": "Which object was opened?",
        "answer": "The door.",
        "choices": [{"choice_id": n, "choice": c} for n, c in enumerate(["The bag.", "The door."])],
        "situations": {"000030": {}, "000044": {}},
    }


def pixels(box: tuple[float, ...], file: Path) -> list[float]:
    """Convert a normalised box to pixels of a picture."""
    from pixel_reasoner.sources.boxes import picture_size

    width, height = picture_size(file)
    return [box[0] * width, box[1] * height, box[2] * width, box[3] * height]


def run(root: Path, command: list[str], **variables: str) -> str:
    """Run a command in the tree. Return the end of its output if it failed, else an empty text."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "HF_HUB_OFFLINE": "1",
        **variables,
    }
    done = subprocess.run(
        command,
        cwd=root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout[-3000:]}"


def main() -> None:
    """Run all scripts and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2, help="rows of each data set")
    parser.add_argument("--seed", type=int, default=0, help="not used: all cases are fixed")
    parser.add_argument("--only", default="", help="run only this part: full, tiny, sft or readme")
    given = parser.parse_args()
    failed, slowest, num_run = [], (0.0, ""), 0
    with tempfile.TemporaryDirectory() as folder, labeller() as address:
        root = Path(folder)
        build_tree(root, given.count)
        write_data(root / "data", given.count)
        variables = {
            "DATA": str(root / "data"),
            "LABELLER": address,
            "LABELLER_MODEL": "any",
            "VLLM": "true",
        }
        variables |= {"GPUS": "1", "WORKERS": "1"}
        tool = ".venv/bin/pixel-reasoner"
        steps = {
            "full": [
                ["bash", "runs/full.sh"],
                ["bash", "runs/full.sh"],
                [tool, "train", "rl", "runs/rl-7b-lora.toml"],
            ],
            "tiny": [["bash", "runs/tiny.sh"]],
            "sft": [
                [
                    tool,
                    *[
                        "synth",
                        "pixelworld",
                        "--families",
                        "attribute,video",
                        "--count",
                        "8",
                        "--out",
                        "runs/warm-start/synth",
                    ],
                ],
                [tool, *["train", "sft", "runs/warm-start.toml"]],
            ],
            "readme": [
                [tool, "demo", "--out", "runs/demo"],
                [tool, "ask", "Which letter?", "--image", "runs/demo/media/attribute-2000000.png"],
            ],
        }
        for name, commands in steps.items():
            for command in commands if given.only in ("", name) else ():
                started = time.monotonic()
                why = run(root, command, **variables)
                seconds = time.monotonic() - started
                num_run += 1
                slowest = max(slowest, (seconds, " ".join(command)))
                if why:
                    failed.append(" ".join(command))
                    print(f"{' '.join(command)}: {why}", file=sys.stderr)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"scripts: {num_run} run, {len(failed)} failed{': ' if failed else ''}{'; '.join(failed)}; "
        f"slowest {slowest[0]:.0f} s ({slowest[1]}); largest memory {memory:.1f} GiB"
    )
    sys.exit(bool(failed))


class labeller:
    """Context manager that runs the test labeller as a process and provides its address."""

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "labeller_server.py"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        return f"http://127.0.0.1:{self.process.stdout.readline().strip()}/v1"

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    main()
