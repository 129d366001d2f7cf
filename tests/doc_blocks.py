"""Run the code blocks of pages: in order, in one folder, in one process per page.

```python               runs in the namespace of the page; lines with >>> as doctests
```bash                 each line runs as a command, in tutorials
# name.ext              as the first line of a block: the block is written to this file instead
<!-- not run: why -->   on the line before a block
"""

from __future__ import annotations

import doctest
import re
import runpy
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
NOT_RUN = {"extend.md": "its examples are packages: test_extend.py"}
_BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)
_FILE = re.compile(r"(?:#|//) ([\w-]+\.\w+)\n")


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    not_run: str
    """why it is not run; empty otherwise"""

    @property
    def file(self) -> str | None:
        """Name of the file that the block is written to."""
        found = _FILE.match(self.text)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, why) for why, language, text in found]


def run_page(
    page: Path,
    command: Callable[..., tuple[int, str, str]],
    toy: Mapping[str, str] = {},
) -> None:
    """Run the blocks of a page in the working directory.

    Args:
        page: Python blocks are run; in a tutorial, also commands.
        command: runs `pixel-reasoner` with arguments.
        toy: text of the page -> text that runs instead: smaller sizes.
    """
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(page):
        text = block.text
        for size, small in toy.items():
            text = text.replace(size, small)
        if block.not_run:
            continue
        if block.file:
            Path(block.file).write_text(text, encoding="utf-8")
        elif block.language == "python":
            run_python(text, names, page.name)
        elif block.language == "bash" and page in TUTORIALS:
            run_commands(text, command)


def run_python(text: str, names: dict[str, Any], where: str) -> None:
    """Run statements or doctests in a namespace."""
    if ">>> " not in text:
        exec(compile(text, where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(text, names, where, where, 0)
    failed: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(
        test, out=failed.append, clear_globs=False
    )
    assert not failed, "".join(failed)
    names.update(test.globs)


def run_commands(text: str, command: Callable[..., tuple[int, str, str]]) -> None:
    """Run lines of a shell: `pixel-reasoner ...` and `python FILE`."""
    for line in text.replace("\\\n", " ").splitlines():
        match shlex.split(line, comments=True):
            case []:
                continue
            case ["pixel-reasoner", *arguments]:
                code, _, err = command(*arguments)
                assert code == 0, f"{line}\n{err}"
            case ["python", file]:
                runpy.run_path(file, run_name="__main__")
            case _:
                raise AssertionError(f"no rule to run: {line}")
