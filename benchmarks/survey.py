"""Memory, speed and resumption of a survey: a table of media of which 30 % are broken, two questions, a scripted model.

.venv/bin/python benchmarks/survey.py [ROWS] [KILLS]              # 100000 rows, 2 kills

One survey runs without interruption, another is killed and resumed. Both must write the same rows, and no process may use more
than 400 MB. Each process is new. The second question has a condition, so a quarter of its rows is skipped.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

MAX_MB = 400
NUM_PICTURES = 100
QUESTIONS = [
    {"id": "kind", "text": "What is it?", "type": "choice", "choices": ["part", "tool"]},
    {"id": "rust", "text": "Is there rust?", "type": "yes_no", "when": "kind == part"},
]

RUN = """
import json, re, sys, time
from pathlib import Path
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.workflows.survey.question_file import parse_questions
from pixel_reasoner.workflows.survey.run import SurveySpec, run_survey

table, out, questions, report_rows = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
ZOOM = '<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1}}</tool_call>'

def reply(conversation):
    model.conversations.clear()  # kept for tests
    if "rust" in str(conversation[:2]):
        return r"\\boxed{yes}"
    return r"\\boxed{A}" if any(one["role"] == "assistant" for one in conversation) else ZOOM

def megabytes():
    # Of this process: `ru_maxrss` would include the parent process.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

model = ScriptedModel(reply)
before, started = megabytes(), time.perf_counter()
spec = SurveySpec(
    questions=tuple(parse_questions({"question": questions})), media=(str(table),), out=out,
    parquet=report_rows > 0, report_rows=report_rows,
)
summary = run_survey(spec, model)
seconds = time.perf_counter() - started
print(json.dumps({"before": before, "peak": megabytes(), "seconds": seconds, "rows": summary.num_rows, **summary.counts}))
"""


def make_table(folder: Path, num_rows: int) -> Path:
    """Write pictures, of which 30 % are broken, and a table that names them again and again. Return its path."""
    names = []
    for number in range(NUM_PICTURES):
        path = folder / f"{number}.png"
        Image.new("RGB", (64, 48), (number, 90, 90)).save(path)
        if number % 10 < 3:
            path.write_bytes(path.read_bytes()[:60])
        names.append(path.name)
    table = folder / "media.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "line"])
        writer.writerows(
            [f"part-{n}", names[n % NUM_PICTURES], f"=line {n % 7}"]
            for n in range(num_rows // len(QUESTIONS))
        )
    return table


def start(table: Path, out: Path, report_rows: int = 200) -> subprocess.Popen[str]:
    """Start the survey."""
    command = [
        sys.executable,
        "-c",
        RUN,
        str(table),
        str(out),
        json.dumps(QUESTIONS),
        str(report_rows),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a survey and return its memory in MB, its seconds, and its counts."""
    printed, _ = process.communicate()
    assert process.returncode == 0, process.returncode
    return dict(json.loads(printed.splitlines()[-1]))


def run_with_kills(
    table: Path, out: Path, num_rows: int, kills: int, rng: random.Random
) -> list[int]:
    """Kill a survey at random numbers of rows. Return the number of rows at each kill."""
    rows_at_kills = []
    for wanted in sorted(rng.randrange(1, num_rows) for _ in range(kills)):
        process = start(table, out)
        while process.poll() is None and count_rows(out) < wanted:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        rows_at_kills.append(count_rows(out))
    return rows_at_kills


def count_rows(out: Path) -> int:
    """Return the number of complete lines in rows.jsonl, from its size where it is large."""
    path = out / "rows.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        start = file.read(1 << 16)
    size, lines = path.stat().st_size, start.count(b"\n")
    return lines if size == len(start) else size * lines // max(1, len(start))


def digest(out: Path) -> dict[str, str]:
    """Return the hashes of the tables of a complete survey."""
    names = ("rows.jsonl", "rows.csv")
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}


def main() -> None:
    """Print memory, speed and the comparison. Fail above the limit or for different rows."""
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = make_table(folder, num_rows)
        found = finish(start(table, folder / "whole"))
        print(
            f"{found['rows']:,} rows: {found['peak']:.0f} MB at the peak ({found['before']:.0f} MB before the run),"
            f" {found['rows'] / found['seconds']:.0f} rows/s",
            flush=True,
        )
        counts = ", ".join(
            f"{found[one]:,} {one}" for one in ("answered", "skipped", "error") if one in found
        )
        print(f"  {counts}", flush=True)
        at_kills = run_with_kills(table, folder / "killed", num_rows, kills, random.Random(1))
        resumed = finish(start(table, folder / "killed"))
        is_equal = digest(folder / "killed") == digest(folder / "whole")
        print(
            f"killed at about {', '.join(f'{one:,}' for one in at_kills)} rows and resumed:"
            f" {resumed['peak']:.0f} MB at the peak, {'the same rows' if is_equal else 'OTHER rows'}",
            flush=True,
        )
    assert is_equal, "a resumed survey must write the same rows"
    assert max(found["peak"], resumed["peak"]) <= MAX_MB, f"more than {MAX_MB} MB"


if __name__ == "__main__":
    main()
