"""Damage the examples of docs/extend.md at random. A damaged extension must cause a one-line error and affect no other extension.

    python -m attacks.extensions --count 200 --seed 0

The attack removes, repeats or moves one line of a module, or removes a word. Then it imports and checks all plug-ins, as `doctor` does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"

CHECK = """
import json, os, sys, traceback
from pathlib import Path
from pixel_reasoner.workflows.plugins import installed_plugins

for folder in json.load(sys.stdin):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    try:
        sys.path.insert(0, folder)
        found = [[one.name, str(one.error or "")] for one in installed_plugins()]
    except BaseException:
        found = traceback.format_exc()
    Path(folder, "found.json").write_text(json.dumps(found))
    os._exit(0)
"""


def examples() -> dict[str, tuple[str, str, str]]:
    """Return module name -> (text, entry point group, entry point)."""
    found = {}
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        name, text = re.findall(r"```python\n# (\S+)\.py\n(.*?)```", section, re.S)[0]
        entry = re.findall(r'entry-points\."(\S+)"\]\n(.*)', section)[0]
        found[name] = (text, entry[0], entry[1].replace('"', ""))
    return found


def damage(text: str, rng: random.Random) -> str:
    """Return the text of a module with one damaged line."""
    lines = text.splitlines()
    number = rng.randrange(len(lines))
    words = lines[number].split(" ")
    match rng.choice(("remove", "repeat", "move", "word")):
        case "remove":
            del lines[number]
        case "repeat":
            lines.insert(number, lines[number])
        case "move":
            lines.insert(rng.randrange(len(lines)), lines.pop(number))
        case _:
            del words[rng.randrange(len(words))]
            lines[number] = " ".join(words)
    return "\n".join(lines) + "\n"


def install(folder: Path, rng: random.Random) -> str:
    """Write all examples with one damaged module. Return its name."""
    modules = examples()
    chosen = rng.choice(sorted(modules))
    info = folder / "mine-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    entries = [f"[{group}]\n{entry}\n" for _, group, entry in modules.values()]
    (info / "entry_points.txt").write_text("".join(entries))
    for name, (text, _, _) in modules.items():
        (folder / f"{name}.py").write_text(damage(text, rng) if name == chosen else text)
    return chosen


def problem(found: list[tuple[str, str]] | str, chosen: str) -> str | None:
    """Return the first violation of the rules, or None."""
    if isinstance(found, str):
        return found
    own = examples()[chosen][2].partition(" ")[0]
    for name, error in found:
        is_one_line = error.startswith("expected ") and ". Fix: " in error and "\n" not in error
        if error and not is_one_line:
            return f"{name}: {error}"
        if error and name != own:
            return f"{name} is broken by {own}: {error}"
    return None if len(found) == len(examples()) else f"only {found}"


def main() -> None:
    """Run the attack and print the number of rejected and accepted extensions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root, str(number)) for number in range(options.count)]
        chosen = [install(folder, rng) for folder in folders]
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CHECK],
            input=json.dumps([str(folder) for folder in folders]),
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
            text=True,
            check=True,
        )
        for folder, name in zip(folders, chosen, strict=True):
            found = json.loads((folder / "found.json").read_text())
            if wrong := problem(found, name):
                outcomes["wrong"] += 1
                print(f"{name}: {wrong}\n{(folder / f'{name}.py').read_text()}")
            else:
                outcomes["refused" if any(error for _, error in found) else "accepted"] += 1
    print(dict(outcomes))
    sys.exit(bool(outcomes["wrong"]))


if __name__ == "__main__":
    main()
