"""Measures the layout of `src/pixel_reasoner`: length of functions and files, import cycles, import order.

    python dev/layout.py            # a table, and everything that breaks a rule
    python dev/layout.py SRC_DIR    # of another copy of the package

`tests/test_layout.py` fails where a rule is broken. Imports are read from the syntax tree: those of modules and those inside
functions. Imports under `if TYPE_CHECKING` do not run and do not count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

PACKAGE = "pixel_reasoner"
SRC = Path(__file__).parents[1] / "src" / PACKAGE

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
SHORT_FUNCTION_LINES = 40
SHORT_FILE_LINES = 400
MIN_SHORT_FUNCTIONS = 0.97
MIN_SHORT_FILES = 0.95

ORDER: tuple[tuple[str, ...], ...] = (
    ("deprecated", "errors", "files", "plugin_checks", "registry", "strict_json", "text"),
    ("schema",),
    ("scoring", "media", "world"),
    ("operations",),
    ("dialects",),
    ("models",),
    ("rollout",),
    ("runs",),
    ("sources",),
    ("data", "evals"),
    ("train", "workflows", "reports", "tiny"),
    ("model", "display", "replies", "run", "training"),
    ("api", "extend", "inspection_api", "integrations", "moments_api", "workflow_api"),
    ("server", "cli"),
)
"""packages and modules from low to high; one may import what stands in its own line or above it in this list"""
CLIENTS: Mapping[str, frozenset[str]] = {
    "world": frozenset(
        {"sources", "data", "train", "workflows", "tiny", "api", "integrations", "cli"}
    ),
    "tiny": frozenset({"api", "training"}),
    "integrations": frozenset({"cli"}),
}
"""leaves, and the only packages that may import them"""
METHODS: frozenset[tuple[str, str]] = frozenset({("schema.trace", "display")})
"""(importer, imported) of methods that users call on a record; they import what is above it when they are called"""


class Length(NamedTuple):
    """Lines of a function or a file."""

    where: str
    lines: int


class Import(NamedTuple):
    """One module of the package imports another."""

    importer: str
    imported: str
    line: int


class Layout(NamedTuple):
    """What was measured."""

    functions: list[Length]
    files: list[Length]
    imports: list[Import]

    @property
    def long_functions(self) -> list[Length]:
        """Functions over the limit, the longest first."""
        return _longer(self.functions, MAX_FUNCTION_LINES)

    @property
    def long_files(self) -> list[Length]:
        """Files over the limit, the longest first."""
        return _longer(self.files, MAX_FILE_LINES)

    @property
    def short_functions(self) -> float:
        """Share of functions of at most 40 lines."""
        return _share(self.functions, SHORT_FUNCTION_LINES)

    @property
    def short_files(self) -> float:
        """Share of files of at most 400 lines."""
        return _share(self.files, SHORT_FILE_LINES)

    @property
    def module_cycles(self) -> list[list[str]]:
        """Groups of modules that import each other."""
        return cycles((one.importer, one.imported) for one in self.imports)

    @property
    def package_cycles(self) -> list[list[str]]:
        """Groups of packages that import each other."""
        return cycles((_top(one.importer), _top(one.imported)) for one in self.imports)

    @property
    def misordered(self) -> list[Import]:
        """Imports against the order of packages."""
        return [one for one in self.imports if not is_in_order(one)]


def measure(src: Path = SRC) -> Layout:
    """Return the layout of a package folder."""
    paths = sorted(src.rglob("*.py"))
    modules = {_module(path, src) for path in paths}
    layout = Layout([], [], [])
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        name = str(path.relative_to(src))
        layout.files.append(Length(name, len(text.splitlines())))
        layout.functions.extend(_functions(tree, name))
        layout.imports.extend(_imports(tree, _module(path, src), modules))
    return layout


def is_in_order(one: Import) -> bool:
    """Return whether an import follows the order of packages.

    >>> is_in_order(Import("rollout.ask", "models.api", 1)), is_in_order(Import("models.api", "rollout.ask", 1))
    (True, False)
    """
    importer, imported = _top(one.importer), _top(one.imported)
    if importer == imported or "" in (
        importer,
        imported,
    ):  # "" is the package itself, which imports lazily
        return True
    if imported in CLIENTS and importer not in CLIENTS[imported]:
        return False
    return _level(imported) <= _level(importer)


def cycles(edges: Iterator[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other, by Tarjan's algorithm.

    >>> cycles(iter([("a", "b"), ("b", "c"), ("c", "b")]))
    [['b', 'c']]
    """
    graph: dict[str, set[str]] = {}
    for start, end in edges:
        graph.setdefault(start, set()).add(end)
        graph.setdefault(end, set())
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], index[other])
        if lowest[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def _level(name: str) -> int:
    for level, names in enumerate(ORDER):
        if name in names:
            return level
    raise ValueError(f"{name} has no place in ORDER of dev/layout.py: add it")


def _top(module: str) -> str:
    return module.partition(".")[0]


def _module(path: Path, src: Path) -> str:
    """Return the name of a module below the package: `models.api`; empty for the package itself."""
    parts = path.relative_to(src).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _functions(tree: ast.Module, name: str) -> Iterator[Length]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            # Decorators are no part of the length: the first line is that of `def`.
            yield Length(f"{name}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1)


def _imports(tree: ast.Module, importer: str, modules: Set[str]) -> Iterator[Import]:
    for node in _run_nodes(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{importer}, line {node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            imported = _nearest(name, modules)
            if imported is None or imported == importer or (importer, imported) in METHODS:
                continue
            yield Import(importer, imported, node.lineno)


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes that run, which leaves out those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield other
                yield from _run_nodes(other)
            continue
        yield child
        yield from _run_nodes(child)


def _nearest(name: str, modules: Set[str]) -> str | None:
    """Return the module that an imported name is or is defined in; None for other packages."""
    if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
        return None
    below = name.removeprefix(PACKAGE).removeprefix(".")
    while below not in modules:
        below = below.rpartition(".")[0]
    return below


def _longer(lengths: list[Length], limit: int) -> list[Length]:
    return sorted((one for one in lengths if one.lines > limit), key=lambda one: -one.lines)


def _share(lengths: list[Length], limit: int) -> float:
    return sum(one.lines <= limit for one in lengths) / max(1, len(lengths))


def main() -> None:
    """Print the table, then what breaks a rule."""
    layout = measure(Path(sys.argv[1]) if len(sys.argv) > 1 else SRC)
    rows = [
        (f"functions over {MAX_FUNCTION_LINES} lines", len(layout.long_functions), "0"),
        (f"functions up to {SHORT_FUNCTION_LINES} lines", layout.short_functions, "97 %"),
        (f"files over {MAX_FILE_LINES} lines", len(layout.long_files), "0"),
        (f"files up to {SHORT_FILE_LINES} lines", layout.short_files, "95 %"),
        ("import cycles of modules", len(layout.module_cycles), "0"),
        ("import cycles of packages", len(layout.package_cycles), "0"),
        ("imports against the order", len(layout.misordered), "0"),
    ]
    print(f"{len(layout.functions)} functions in {len(layout.files)} files\n")
    print("| measure | figure | floor |\n| --- | --- | --- |")
    for name, figure, floor in rows:
        print(f"| {name} | {f'{figure:.1%}' if isinstance(figure, float) else figure} | {floor} |")
    print()
    for one in (*layout.long_functions, *layout.long_files):
        print(f"{one.lines} lines: {one.where}")
    for group in (*layout.module_cycles, *layout.package_cycles):
        print(f"cycle: {', '.join(group)}")
    for order in layout.misordered:
        print(f"order: {order.importer} imports {order.imported} (line {order.line})")


if __name__ == "__main__":
    main()
