"""Compare an evaluation that is killed at random times with an uninterrupted one: equal files, no lost and no repeated row.

.venv/bin/python benchmarks/killed.py [ROWS] [KILLS]
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

RUN = """
import sys
from pathlib import Path
from pixel_reasoner.evals.run import Evaluation, evaluate_compared
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.question import MediaItem, Question

photo, out, count = sys.argv[1:]
medium = MediaItem(kind="image", path=photo)
questions = [
    Question(id=f"q{n}", text=f"Question {n}?", media=(medium,), answer=("red",), group=f"{n}")
    for n in range(int(count))
]
zoom = '<tool_call>\\n{"name": "zoom_in", "arguments": {"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1}}\\n</tool_call>'
model = ScriptedModel([zoom, "\\\\boxed{red}"])
evaluate_compared(Evaluation(questions, model, RolloutConfig(), {"name": "t"}, batch_size=8), Path(out))
"""


def start(photo: Path, out: Path, rows: int) -> subprocess.Popen[bytes]:
    """Start an evaluation of a scripted model, with and without operations."""
    return subprocess.Popen([sys.executable, "-c", RUN, str(photo), str(out), str(rows)])


def run_with_kills(photo: Path, out: Path, rows: int, kills: int, rng: random.Random) -> list[int]:
    """Kill a run at random row counts, then let it finish. Return the row count at each kill."""
    logs = [out / "traces.jsonl", out / "without/traces.jsonl"]
    rows_at_kills = []
    for wanted in sorted(rng.randrange(1, 2 * rows) for _ in range(kills)):
        process = start(photo, out, rows)
        while process.poll() is None and num_rows(logs) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        rows_at_kills.append(num_rows(logs))
    assert start(photo, out, rows).wait() == 0
    return rows_at_kills


def num_rows(logs: list[Path]) -> int:
    """Return the number of complete rows in the logs."""
    return sum(log.read_bytes().count(b"\n") for log in logs if log.exists())


def without_times(out: Path) -> dict[str, object]:
    """Return the content of the files of a run, without times."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*.json*")):
        lines = path.read_text(encoding="utf-8").splitlines()
        values = (
            map(json.loads, lines) if path.suffix == ".jsonl" else [json.loads("\n".join(lines))]
        )
        found[str(path.relative_to(out))] = [_timeless(value) for value in values]
    return found


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        clocks = {"seconds", "generate_s", "operate_s", "seconds_per_question"}
        return {name: _timeless(one) for name, one in value.items() if name not in clocks}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def main() -> None:
    rows, kills = (int(one) for one in (sys.argv[1:] + ["2000", "10"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        Image.effect_noise((640, 480), 80).convert("RGB").save(photo)
        assert start(photo, Path(folder) / "uninterrupted", rows).wait() == 0
        rows_at_kills = run_with_kills(photo, Path(folder) / "killed", rows, kills, random.Random())
        expected, found = (
            without_times(Path(folder) / name) for name in ("uninterrupted", "killed")
        )
        print(f"killed at {', '.join(map(str, rows_at_kills))} of {2 * rows} rows")
        for name, content in expected.items():
            same = "the same" if found.get(name) == content else "DIFFERENT"
            print(f"{name}: {len(content)} rows or values, {same}")
        assert expected == found


if __name__ == "__main__":
    main()
