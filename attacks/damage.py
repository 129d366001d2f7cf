"""Damage valid files: hostile values, truncated text, links and code."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Targets(NamedTuple):
    """Targets of hostile files: secrets to read, a marker to execute."""

    home: Path
    """folder with secret.png and secret.txt"""
    executed: Path
    """file that code in a folder would write"""


PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover=alert(1) autofocus onfocus=alert(1) x="',
    "'></select></option><svg/onload=alert(1)>",
    "</style><style>@import url(http://127.0.0.1:9/a.css)</style>",
    "{{ 7*7 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "javascript:alert(1)",
    "a\x00b\x1b[2J\x1b]0;pwned\x07\u202egnp.exe\u2066",
    "[bold]x[/bold] [/nothing] [link=http://127.0.0.1:9]x[/link]",
    "\\boxed{" * 200,
    "x" * 20_000,
    "| a | b |\n| --- |",
    "__import__('os').system('touch executed')",
    "",
)
NUMBERS = (0, -1, 1, 10**400, 2**63, -(2**40), 1e308, 0.5, True)
RAW = (
    "1e999",
    "NaN",
    "-Infinity",
    '"\\ud800"',
    "[" * 10_000,
    '{"a":' * 10_000,
    "null",
    "[[]]",
    "{}",
)
PATHS = (
    "../home/secret.png", "../home/secret.txt", "link.png", "linked/secret.png", "../../../../etc/passwd",
    "/etc/passwd", "/dev/zero", "/proc/self/environ", "fifo.png", "", ".", "..", "a\x00b", "https://127.0.0.1:9/a.png",
    "file:///etc/passwd", "x" * 5000, "media/scene.png/../../../home/secret.png",
)  # fmt: skip


def secret_paths(targets: Targets) -> tuple[str, ...]:
    """Return absolute paths of the secrets."""
    home = targets.home
    return str(home / "secret.png"), str(home / "secret.txt"), str(home)


def damage_folder(folder: Path, rng: random.Random, targets: Targets) -> None:
    """Damage a copy of a valid folder in one to three places."""
    (folder / "link.png").symlink_to(targets.home / "secret.png")
    (folder / "linked").symlink_to(targets.home)
    os.mkfifo(folder / "fifo.png")
    files = [
        path for path in folder.rglob("*.json*") if path.is_file() and ".run" not in path.parts
    ]
    for _ in range(rng.randint(1, 3)):
        rng.choice((damage_value, damage_value, damage_value, damage_text, damage_link))(
            rng.choice(files), rng, targets
        )


def damage_value(path: Path, rng: random.Random, targets: Targets) -> None:
    """Replace, add or remove a value of a JSON or JSONL file."""
    lines = (
        path.read_text(encoding="utf-8", errors="replace").splitlines()
        if path.suffix == ".jsonl"
        else None
    )
    text = rng.choice(lines) if lines else path.read_text(encoding="utf-8", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return damage_text(path, rng, targets)
    marker = "@@raw@@"
    damaged = json.dumps(_damaged(value, rng, targets, marker))
    damaged = damaged.replace(f'"{marker}"', rng.choice(RAW))
    new = (
        "\n".join(damaged if line is text else line for line in lines) + "\n" if lines else damaged
    )
    path.write_text(new, encoding="utf-8")
    return None


def _damaged(value: Any, rng: random.Random, targets: Targets, marker: str) -> Any:
    """Return a JSON value with one hostile value somewhere in it."""
    is_inner = isinstance(value, dict | list) and value
    if is_inner and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        changed = value.copy()
        if rng.random() < 0.05:
            del changed[key]
        elif isinstance(value, dict) and rng.random() < 0.05:
            changed[rng.choice(PAYLOADS)] = value[key]
        else:
            changed[key] = _damaged(value[key], rng, targets, marker)
        return changed
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: rng.choice(PAYLOADS),
        lambda: rng.choice(PATHS + secret_paths(targets)),
        lambda: rng.choice(NUMBERS),
        lambda: marker,
        lambda: [value, value],
        lambda: {"value": value},
    )
    if isinstance(value, str) and rng.random() < 0.6:
        kinds = kinds[:2]
    return rng.choice(kinds)()


def damage_text(path: Path, rng: random.Random, targets: Targets) -> None:
    """Truncate a file or change some of its bytes."""
    del targets
    content = path.read_bytes()
    middle = rng.randrange(len(content) + 1)
    inserted = rng.choice(
        (b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"}", b"[" * 10_000, rng.randbytes(40))
    )
    path.write_bytes(content[:middle] + inserted + (content[middle:] if inserted else b""))


def damage_link(path: Path, rng: random.Random, targets: Targets) -> None:
    """Replace media of the folder by links to secrets or by frame folders with links."""
    folder = path.parent
    pictures = [one for one in folder.rglob("*.png") if one.is_file() and not one.is_symlink()]
    for picture in pictures[:2]:
        picture.unlink()
        picture.symlink_to(rng.choice((targets.home / "secret.png", Path("/dev/zero"), picture)))


def damage_model(folder: Path, rng: random.Random, targets: Targets) -> None:
    """Damage a model folder: values of its files, added code, or truncated weights."""
    touch = f"open({str(targets.executed)!r}, 'w').close()"
    (folder / "evil.py").write_text(f"{touch}\nclass Evil: pass\n")
    pickled = b"cos\nsystem\n(S'touch " + str(targets.executed).encode() + b"'\ntR."
    kind = rng.randrange(5)
    if kind == 0:
        for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
            names = (
                "AutoConfig",
                "AutoModelForImageTextToText",
                "AutoProcessor",
                "AutoTokenizer",
                "AutoImageProcessor",
            )
            fields = json.loads((folder / name).read_text()) | {
                "auto_map": dict.fromkeys(names, "evil.Evil")
            }
            if rng.random() < 0.5:
                fields |= {
                    "model_type": "evil",
                    "processor_class": "Evil",
                    "tokenizer_class": "Evil",
                }
            (folder / name).write_text(json.dumps(fields))
    elif kind == 1:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickled)
    elif kind == 2:
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: rng.randrange(weights.stat().st_size)])
    elif kind == 3:
        template = (
            "{{ cycler.__init__.__globals__.os.system('touch " + str(targets.executed) + "') }}"
        )
        (folder / "chat_template.jinja").write_text(
            rng.choice((template, "{% for x in range(10**9) %}{% endfor %}", "{{", ""))
        )
    else:
        damage_value(rng.choice(sorted(folder.glob("*.json"))), rng, targets)
