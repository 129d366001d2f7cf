"""Run commands on hostile folders: runs, traces, logs, exports, rows and models with hostile values, links and code.

    python -m attacks.folders --count 300 --seed 0

Each case damages a valid folder in a few places and runs one command on it. The exit code must be 0, 1 (`check` found problems) or
2 (one message). A case fails if the command changes a file outside its output, shows the secret picture or text outside the
folder, or writes a page that runs, loads or reports anything in Chromium.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from attacks.browser import chromium, open_browser, open_page
from attacks.damage import Targets, damage_folder, damage_model

SECRET = "canary-0b1f2e"
"""text that no output may contain"""
SECRET_COLOR = (255, 0, 255)
"""color of the secret picture; no other picture contains it"""
CPU_TIMEOUT_S = 60
WALL_TIMEOUT_S = 600
"""limit for a command that waits and uses no CPU time"""
QUICK = ("check", "report", "report", "report", "compare", "export", "import")
SLOW = ("eval", "ask")
"""commands that load a model"""


class Case(NamedTuple):
    """One command on one hostile folder."""

    command: str
    arguments: list[str]


class Result(NamedTuple):
    """Result of a command."""

    code: int
    text: str
    """output"""
    error: str
    """traceback; empty without one"""
    seconds: float
    """CPU time"""


class Workspace:
    """Workspace: valid files to damage, secrets outside of them, and folders for cases."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.good, self.home, self.cwd = root / "good", root / "home", root / "cwd"
        for folder in (self.good, self.home, self.cwd):
            folder.mkdir(parents=True)
        (self.home / "secret.txt").write_text(SECRET)
        Image.new("RGB", (320, 240), SECRET_COLOR).save(self.home / "secret.png")
        os.environ["XDG_STATE_HOME"] = str(root / "state")
        self.targets = Targets(self.home, self.cwd / "executed")
        write_good_files(self.good)


def write_good_files(folder: Path) -> None:
    """Write a run with its comparison, another run, a log, an export and rows."""
    from pixel_reasoner.data.formats import export_message_list
    from pixel_reasoner.dialects import PIXEL_REASONER
    from pixel_reasoner.evals.run import Evaluation, evaluate, evaluate_compared
    from pixel_reasoner.models.scripted import ScriptedModel
    from pixel_reasoner.schema.question import MediaItem, Question
    from pixel_reasoner.schema.settings import RolloutConfig

    call = '<tool_call>\n{"name": "crop_image_normalized", "arguments": {"bbox_2d": [0.1, 0.1, 0.6, 0.6], "target_image": 1}}\n</tool_call>'
    model = ScriptedModel([f"I look.\n{call}", r"It is \boxed{red}."], dialect=PIXEL_REASONER.name)
    questions = [
        Question(id=f"q{n}", text=f"Which colour has {n}?", media=(MediaItem(kind="image", path="media/scene.png"),), answer=("red", "blue")[n % 2 :][:1], category="colour")
        for n in range(3)
    ]  # fmt: skip
    for name, run in (("run", evaluate_compared), ("other", evaluate)):
        (folder / name / "media").mkdir(parents=True)
        picture = Image.linear_gradient("L").resize((320, 240)).convert("RGB")
        picture.save(folder / name / "media" / "scene.png")
        rows = {"read": 4, "dropped": {"bad": {"count": 1, "rows": ["r"]}}, "noted": {}}
        run(
            Evaluation(questions, model, RolloutConfig(), {"name": "vstar"}, rows=rows),
            folder / name,
        )
    export_message_list(folder / "run", folder / "exported")
    (folder / "log").mkdir()
    log = [json.dumps({"step": n, "loss": 1 / (n + 1), "rapr": n / 9}) for n in range(9)]
    (folder / "log" / "log.jsonl").write_text("\n".join(log) + "\n")
    (folder / "rows").mkdir()
    shutil.copy(folder / "run" / "media" / "scene.png", folder / "rows" / "scene.png")
    row = {
        "media": [{"type": "image", "path": "scene.png"}],
        "question": "Which colour?",
        "answer": "red",
    }
    lines = [json.dumps({"id": str(n), **row}) for n in range(3)]
    (folder / "rows" / "rows.jsonl").write_text("\n".join(lines) + "\n")


# --- commands ---


def make_case(
    workspace: Workspace, rng: random.Random, number: int, commands: Sequence[str]
) -> Case:
    """Write a hostile folder and return a command on it."""
    command = rng.choice(commands)
    folder, out = workspace.root / "cases" / str(number), workspace.root / "out" / str(number)
    out.mkdir(parents=True)
    if command == "ask":
        from pixel_reasoner.models.folder import BUNDLED_MODELS

        shutil.copytree(BUNDLED_MODELS["tiny"], folder)
        damage_model(folder, rng, workspace.targets)
        picture = str(workspace.good / "run" / "media" / "scene.png")
        arguments = ["What?", "--image", picture, "--model", str(folder), "--max-new-tokens", "8"]
        return Case(command, [*arguments, "--report", str(out / "page.html")])
    source = {"import": "exported", "eval": "rows"}.get(command, "run")
    if command == "report" and rng.random() < 0.25:
        source = "log"
    shutil.copytree(workspace.good / source, folder)
    damage_folder(folder, rng, workspace.targets)
    page = ["--out", str(out / "page.html")]
    arguments = {
        "check": [str(folder)],
        "report": [str(folder), *page, *rng.choice(([], ["--references"], ["--table", str(out / "t.md")]))],
        "compare": [str(folder), str(workspace.good / "other"), "--anyway", *page, *rng.choice(([], ["--json"]))],
        "export": [str(folder), "--out", str(out / "x"), "--to", rng.choice(("message_list", "trl"))],
        "import": [str(folder / "data.json"), "--out", str(out / "x")],
        "eval": ["jsonl", "--data", str(folder), "--max-new-tokens", "8", "--max-turns", "2", "--out", str(out / "x")],
    }  # fmt: skip
    return Case(command, arguments[command])


def run_command(case: Case) -> Result:
    """Run a command in this process, as the command line does."""
    from pixel_reasoner import cli

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {CPU_TIMEOUT_S} s of CPU time, or {WALL_TIMEOUT_S} s")

    output, error, code, start = io.StringIO(), "", 0, time.process_time()
    argv, sys.argv = sys.argv, ["pixel-reasoner", case.command, *case.arguments]
    timers = {signal.ITIMER_PROF: CPU_TIMEOUT_S, signal.ITIMER_REAL: WALL_TIMEOUT_S}
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, stop)
    for timer, seconds in timers.items():
        signal.setitimer(timer, seconds)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        error = traceback.format_exc()
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        sys.argv = argv
    return Result(code, output.getvalue(), error, time.process_time() - start)


# --- violations ---


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Return path -> (size, time) of everything in the folders. Links are not followed."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            state = path.lstat()
            found[str(path)] = (state.st_size, state.st_mtime_ns)
    return found


def find_problems(case: Case, result: Result, out: Path) -> Iterator[str]:
    """Yield the violations of a command, without changed files."""
    if result.error:
        yield f"traceback: {result.error.strip().splitlines()[-1][:150]}"
    elif result.code not in ((0, 1, 2) if case.command == "check" else (0, 2)):
        yield f"exit code {result.code}: {result.text[-150:]}"
    if re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", _without_colors(result.text)
    ):
        yield "terminal: a control character was printed"
    if result.code == 2 and len(result.text.strip().splitlines()) > 30:
        yield f"message: {len(result.text.splitlines())} lines"
    if SECRET in result.text:
        yield "secret: its text was printed"
    for path in (one for one in out.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if SECRET.encode() in content:
            yield f"secret: its text is in {path.name}"
        if any(map(_is_secret_picture, _pictures_in(path, content))):
            yield f"secret: its picture is in {path.name}"
        if path.name.endswith(".part"):
            yield f"partial file: {path.name}"


def _without_colors(text: str) -> str:
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\r", "", text)  # progress bars


def _pictures_in(path: Path, content: bytes) -> Iterator[bytes]:
    if path.suffix == ".html":
        for data in re.findall(rb"data:image/webp;base64,([\w+/=]+)", content):
            yield base64.b64decode(data)
    elif path.suffix in (".png", ".webp", ".jpg"):
        yield content
    elif path.suffix == ".arrow":  # PNG files, uncompressed in the table
        yield from (b"\x89PNG" + part for part in content.split(b"\x89PNG")[1:])


def _is_secret_picture(content: bytes) -> bool:
    with Image.open(io.BytesIO(content)) as image:
        pixel = image.convert("RGB").resize((1, 1), Image.Resampling.NEAREST).getpixel((0, 0))
    return all(abs(one - other) < 40 for one, other in zip(pixel, SECRET_COLOR, strict=True))


def attack(
    count: int,
    seed: int,
    commands: Sequence[str],
    *,
    browser: Any = None,
    on_progress: Callable[[int, list[str]], None] = lambda number, named: None,
) -> tuple[Counter[str], Counter[str], float, list[str]]:
    """Run cases. Return commands and failures by kind, the seconds of the slowest command, and one line per failure."""
    counts: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    named: list[str] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        workspace = Workspace(Path(folder).resolve() / "place")
        os.chdir(workspace.cwd)
        for number in range(count):
            case = make_case(workspace, random.Random(f"folders/{seed}/{number}"), number, commands)
            out = workspace.root / "out" / str(number)
            protected = (workspace.good, workspace.home, workspace.cwd, workspace.root / "cases")
            before = snapshot(*protected)
            result = run_command(case)
            found = list(find_problems(case, result, out))
            if snapshot(*protected) != before:
                found.append("files: a file outside the output was changed")
            if browser is not None:
                found += [
                    one for page in out.rglob("*.html") for one in _page_problems(browser, page)
                ]
            counts[f"{case.command} {result.code}"] += 1
            failed.update(one.partition(":")[0] for one in found)
            named += [f"case {number}, {case.command}: {one}" for one in found]
            if number % 20 == 19:
                on_progress(number + 1, named)
            slowest = max(slowest, result.seconds)
            shutil.rmtree(workspace.root / "cases" / str(number))
            shutil.rmtree(out)
    return counts, failed, slowest, named


def _page_problems(browser: Any, path: Path) -> list[str]:
    with open_page(browser, path) as (page, problems):
        page.mouse.move(200, 200)
        page.keyboard.press("j")
        return [f"page: {one}" for one in problems]


def _print_progress(number: int, named: list[str]) -> None:
    print(
        f"{number} commands, {len(named)} failures",
        *named[-20:],
        sep="\n  ",
        file=sys.stderr,
        flush=True,
    )


def main() -> int:
    """Run the attack and print one line of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    has_browser = chromium() is not None
    with open_browser() if has_browser else contextlib.nullcontext() as browser:
        commands = QUICK * 2 + SLOW
        counts, failed, slowest, named = attack(
            options.count, options.seed, commands, browser=browser, on_progress=_print_progress
        )
    if named:
        print("\n".join(named), file=sys.stderr)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    pages = "pages opened in Chromium" if has_browser else "no Chromium: pages not opened"
    print(
        f"folders: {counts.total()} commands ({', '.join(f'{name}: {n}' for name, n in sorted(counts.items()))}); "
        f"failed {failed.total()} {dict(failed)}; {pages}; slowest {slowest:.1f} s of CPU time; {memory_mb} MB"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
