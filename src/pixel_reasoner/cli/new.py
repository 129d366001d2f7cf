"""Command `new`: a package with an extension, with a test that passes."""

from __future__ import annotations

import builtins
import keyword
import re
import shutil
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pixel_reasoner.cli.choices import EXTENSIONS, GRIDS, choice_argument, choice_option
from pixel_reasoner.cli.options import reject_options
from pixel_reasoner.cli.output import print_line
from pixel_reasoner.cli.proposed import module_text, print_decisions, propose
from pixel_reasoner.errors import OutputError, UsageError

if TYPE_CHECKING:
    from pixel_reasoner.registry import Registry
    from pixel_reasoner.schema.question import Question

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_NAME_LENGTH = 40
_TEMPLATES = Path(__file__).parent / "templates"
_NUM_ROWS = 3
SAMPLE = "sample"
"""folder of a package with pictures to try it on"""


class _Kind(NamedTuple):
    """What differs between the packages of different kinds of extensions."""

    item: str
    """object that the entry point names; `$name` is the name of the extension"""
    use: str
    """command that uses it"""


_KINDS = {
    "operation": _Kind(
        "$name", 'pixel-reasoner ask "$question" --image $picture --operation $name'
    ),
    "dialect": _Kind("DIALECT", 'pixel-reasoner ask "$question" --image $picture --dialect $name'),
    "benchmark": _Kind("BENCHMARK", "pixel-reasoner eval $name --data sample --out runs/$name"),
    "reward": _Kind("$name", "pixel-reasoner train rl rl.toml --plan --gpus 1"),
}


def new(
    kind: Annotated[str, choice_argument(EXTENSIONS, "a kind", help="What the package adds.")],
    name: Annotated[
        str,
        typer.Argument(help="Its name: lower-case letters, digits and single underscores."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A new folder [default: pixel-reasoner-NAME]"),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A model folder: the dialect is proposed from its chat template, tokenizer, processor and config.",
        ),
    ] = None,
    grid: Annotated[
        str | None,
        choice_option(
            GRIDS,
            "--grid",
            help="Unit and order of boxes of the model, with --from [default: asked]",
        ),
    ] = None,
) -> None:
    """Write a package that adds an operation, dialect, benchmark or reward, with a test that passes.

    Its README has the commands to install, test and use it. Nothing that exists is replaced.
    With --from, a dialect is proposed from a model folder: what its chat template shows is filled in, what it cannot show is
    printed as a decision, with its options and the line to edit.

    Examples:
        pixel-reasoner new operation half_picture

        pixel-reasoner new benchmark road_signs --out road-signs

        pixel-reasoner new dialect my_model --from models/my-model
    """
    _check_name(kind, name)
    if kind != "dialect":
        used = [("--from", from_), ("--grid", grid)]
        reject_options(
            [one for one, value in used if value is not None],
            f"with {kind}: they belong to dialect",
        )
    elif from_ is None and grid is not None:
        reject_options(["--grid"], "without --from")
    project = f"pixel-reasoner-{name.replace('_', '-')}"
    folder = (out or Path(project)).absolute()
    _check_folder(folder)
    proposal = None if from_ is None else propose(name, from_, grid)
    texts = {} if proposal is None else {f"pixel_reasoner_{name}.py": module_text(proposal, name)}
    use = _write_package(folder, kind, name, project, texts)
    print_line(f"Written: {out or Path(project)}")
    if proposal is not None:
        [text] = texts.values()
        print_decisions(proposal, f"pixel_reasoner_{name}", text)
    print_line(f"Next: cd {out or Path(project)} && pip install -e '.[test]' && python -m pytest")
    print_line(f"Then: {use}")


def _check_name(kind: str, name: str) -> None:
    """Raise an error unless a name is one of Python, and free.

    Raises:
        UsageError: it is invalid or taken.
    """
    suggested = "_".join(re.findall(r"[a-z0-9]+", name.lower())).lstrip("0123456789_")
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise UsageError(
            expected=f"a name of lower-case letters, digits and single underscores, at most {_MAX_NAME_LENGTH} characters",
            got=repr(name),
            fix=f"such as {suggested[:_MAX_NAME_LENGTH].rstrip('_') or 'my_' + kind}",
        )
    if keyword.iskeyword(name) or hasattr(builtins, name):
        raise UsageError(
            expected="a name that Python does not use",
            got=repr(name),
            fix=f"such as my_{name}",
        )
    if name in _registry(kind) or (kind, name) == ("benchmark", "pixelworld"):
        raise UsageError(
            expected=f"the name of a new {kind}",
            got=f"{name!r}, which exists",
            fix=f"such as my_{name}",
        )


def _registry(kind: str) -> Registry[Any]:
    from pixel_reasoner.workflows.plugins import REGISTRIES

    return next(one for one in REGISTRIES if one.kind == kind)


def _check_folder(folder: Path) -> None:
    """Raise an error unless a folder is empty or does not exist."""
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free:
        raise OutputError(
            expected="a new or an empty folder",
            got=f"{folder}, which {'has files in it' if folder.is_dir() else 'is a file'}",
            fix="name another one with --out",
        )


def _write_package(
    folder: Path, kind: str, name: str, project: str, proposed: dict[str, str]
) -> str:
    """Write all files, or none, and return the command that uses the extension. `proposed` replaces files of the template."""
    from pixel_reasoner.files import cannot_write, temporary_path

    part = temporary_path(folder)
    try:
        part.mkdir(parents=True)
        texts = {"name": name, "kind": kind, "project": project, "module": f"pixel_reasoner_{name}"}
        if kind != "reward":
            texts |= _write_sample(part / SAMPLE, has_rows=kind == "benchmark")
        texts["item"] = _filled(_KINDS[kind].item, texts)
        texts["use"] = _filled(_KINDS[kind].use, texts)
        more = _TEMPLATES / "new" / f"README_{kind}.md.txt"
        texts["more"] = _filled(more.read_text("utf-8"), texts) if more.exists() else ""
        for path, text in (_files(kind, texts) | proposed).items():
            (part / path).write_text(text, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for written in part.iterdir():  # an empty folder, which may be the current one, stays
            written.rename(folder / written.name)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return texts["use"]


def _files(kind: str, texts: dict[str, str]) -> dict[str, str]:
    """Return the text files of a package."""
    module = texts["module"]
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}.py": f"{kind}.py",
        f"test_{module}.py": f"test_{kind}.py",
    }
    texts = {"more": "", **texts}
    files = {
        path: _filled((_TEMPLATES / "new" / f"{name}.txt").read_text(encoding="utf-8"), texts)
        for path, name in templates.items()
    }
    if kind == "reward":
        run = (_TEMPLATES / "rl.toml").read_text(encoding="utf-8")
        line = f'reward_functions = ["{texts["name"]}"]\n'
        files["rl.toml"] = run.replace("\n[pixelworld]", f"{line}\n[pixelworld]", 1)
    return files


def _filled(text: str, texts: dict[str, str]) -> str:
    return Template(text).substitute(texts)


def _write_sample(folder: Path, *, has_rows: bool) -> dict[str, str]:
    """Write pictures of PixelWorld, and rows about them, and return a question and its picture."""
    from pixel_reasoner.world import render, scenes

    questions = list(render(scenes("attribute", "train", 0, _NUM_ROWS if has_rows else 1), folder))
    if has_rows:
        rows = ["id\tpicture\tquestion\tanswer", *map(_row, questions)]
        (folder / "questions.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    first = questions[0]
    return {"question": first.text, "picture": f"{SAMPLE}/{first.media[0].path}"}


def _row(question: Question) -> str:
    return "\t".join((question.id, question.media[0].path, question.text, question.answer[0]))
