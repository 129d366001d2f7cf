"""Options and arguments with a fixed set of values: listed in `--help`, completed by the shell, checked before anything runs.

The names are literals, because `--help` must not import the enumerations (`tests/test_cli.py` compares them). Names
that other
packages may add are looked up only for completion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from pixel_reasoner.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")
PROTOCOLS = ("text", "native")
SERVERS = ("any", "vllm", "sglang", "llamacpp", "ollama", "transformers", "hosted")
REASONING_FIELDS = ("reasoning_content", "reasoning", "both", "inline")
SCORERS = ("typed", "harness", "released")
SPLITS = ("train", "validation", "test")
FAMILIES = ("attribute", "relation", "count", "infographic", "video")
OPERATION_FAMILIES = ("turned", "faint", "distance", "crowd", "brief")
"""families for single operations, which `all` does not contain"""
FAMILIES_2 = ("attribute", "relation", "count", "where", "parts", "video", "moments")
"""families of PixelWorld 2"""
ALL_WORLD_FAMILIES = (
    *FAMILIES,
    *OPERATION_FAMILIES,
    *(name for name in FAMILIES_2 if name not in FAMILIES),
)
CONTROLS = ("forbidden", "forced", "random-crop", "blank", "oracle", "tiling")
"""control conditions of `eval`"""
ANALYSES = ("template", "labeller")
OCR_MODES = ("auto", "never", "always")
EXPORT_FORMATS = ("trl", "message_list", "verl", "questions")
TEMPLATES = ("sft", "rl", "rows", "survey", "inspect")
LESSON_FORMATS = ("html", "handout", "notebook", "h5p", "notes", "pptx", "strip", "gif")
EXTENSIONS = ("operation", "dialect", "benchmark", "reward")
"""kinds of packages that `new` writes"""
GRIDS = ("fractions", "fine_fractions", "thousandths", "thousandths_yx", "nines", "pixels")
"""names in `dialects.proposal.BOX_GRIDS`"""

CUT_MODES = ("exact", "fast")
REDACTIONS = ("box", "pixelate", "blur")
MCP_CLIENTS = ("claude", "vscode", "cursor")
"""programs whose configuration `mcp --print-config` prints"""


def choice_option(
    names: Sequence[str],
    *declarations: str,
    elsewhere: Mapping[str, str] | None = None,
    **more: Any,
) -> Any:
    """Return an option whose value is one of `names`.

    Args:
        names: the values.
        declarations: names of the option.
        elsewhere: value that another command has -> what to do, for the message.
        more: further arguments of the option.
    """
    option: Any = typer.Option  # its overloads do not accept unpacked arguments
    return option(*declarations, **_choice(names, declarations[0], elsewhere or {}), **more)


def choice_argument(names: Sequence[str], title: str, **more: Any) -> Any:
    """Return an argument whose value is one of `names`."""
    return typer.Argument(**_choice(names, title), **more)


def _choice(
    names: Sequence[str], title: str, elsewhere: Mapping[str, str] | None = None
) -> dict[str, Any]:
    def check(value: Any) -> Any:
        if value is not None and value not in names:
            fix = (elsewhere or {}).get(value, "name one of these")
            raise UsageError(expected=f"{title} {', '.join(names)}", got=repr(value), fix=fix)
        return value

    return {
        "metavar": "|".join(names),
        "autocompletion": completing(lambda: names),
        "callback": check,
    }


def completing(names: Callable[[], Sequence[str]]) -> Callable[[str], list[str]]:
    """Return a completion function for names.

    >>> completing(lambda: ["train", "test"])("te")
    ['test']
    """

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def dialects() -> list[str]:
    """Return all dialects, including those of other packages."""
    from pixel_reasoner.dialects import DIALECTS

    return list(DIALECTS)


def operations() -> list[str]:
    """Return the operations that a run offers only if it names them."""
    from pixel_reasoner.operations.registry import OPERATIONS
    from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS

    return [name for name in OPERATIONS if name not in DEFAULT_OPERATIONS]


def strategies() -> list[str]:
    """Return all strategies, also those of other packages."""
    from pixel_reasoner.rollout.strategies import STRATEGIES

    return list(STRATEGIES)


def report_sections() -> list[str]:
    """Return all report sections of other packages."""
    from pixel_reasoner.reports.sections import SECTIONS

    return list(SECTIONS)


def sources() -> list[str]:
    """Return all question sources, including those of other packages."""
    from pixel_reasoner.sources.base import SOURCES

    return list(SOURCES)


def tasks() -> list[str]:
    """Return all evaluation tasks: PixelWorld and all benchmarks, including those of other packages."""
    from pixel_reasoner.api import benchmarks

    return ["pixelworld", *(one.name for one in benchmarks())]
