"""Package of a dialect that is proposed from a model folder: the module, and what its user has to decide."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pixel_reasoner.cli.output import print_line

if TYPE_CHECKING:
    from pixel_reasoner.dialects.proposal import Decision, Proposal

_EXPORTS = (
    "BOX_GRIDS",
    "CALL_SYNTAXES",
    "THOUGHT_TAGS",
    "Carriage",
    "ModelMatch",
    "family_dialect",
    "tile_budgets",
    "token_budgets",
)
"""names of `pixel_reasoner.extend` that a module may use"""
_MARK = "DECIDE"
_UNDECIDED = {"thought_tags": 'THOUGHT_TAGS["THINK_TAGS"]'}
"""fields without a proposed value -> the line to start from, as a comment"""
_NUM_BOXES = 1000


def propose(name: str, folder: Path, grid: str | None) -> Proposal:
    """Return the proposal for a model folder, after its conformance test.

    Raises:
        ModelError: the folder has no usable template, processor or tokenizer.
    """
    from pixel_reasoner.dialects.conformance import assert_valid_dialect
    from pixel_reasoner.dialects.proposal import propose_dialect
    from pixel_reasoner.errors import ModelError
    from pixel_reasoner.models.template_folder import read_template_folder

    read = read_template_folder(folder)
    proposal = propose_dialect(name, read.facts, read.render, read.files, grid)
    try:
        assert_valid_dialect(proposal.dialect, _NUM_BOXES)
    except AssertionError as error:
        raise ModelError(
            expected="a template from which a dialect can be proposed",
            got=f"one whose dialect fails the conformance test: {error}",
            fix="start from `pixel-reasoner new dialect` without --from",
        ) from error
    return proposal


def module_text(proposal: Proposal, name: str) -> str:
    """Return the module of a proposed dialect. Lines that need a decision end with a comment."""
    undecided = {one.field for one in proposal.decisions}
    lines = []
    for field, value in proposal.fields.items():
        mark = f"  # {_MARK}: see the options that `new` printed" if field in undecided else ""
        lines.append(f"    {field}={value.expression},{mark}")
    for field in sorted(undecided - set(proposal.fields)):
        lines.append(f"    # {field}={_UNDECIDED.get(field, '...')},  # {_MARK}")
    body = "\n".join(lines)
    used = [one for one in _EXPORTS if re.search(rf"\b{one}\b", f"family_dialect {body}")]
    imports = "".join(f"    {one},\n" for one in used)
    return (
        f'"""The dialect `{name}`, proposed from a chat template. Lines with {_MARK} need a decision.\n\n'
        "`pixel_reasoner.extend.Dialect` lists all fields, and the page on dialects explains them.\n"
        f'"""\n\nfrom pixel_reasoner.extend import (\n{imports})\n\n'
        f"DIALECT = family_dialect(\n{body}\n)\n"
    )


def print_decisions(proposal: Proposal, module: str, text: str) -> None:
    """Print what was found, and each decision with the line to edit."""
    dialect = proposal.dialect
    print_line(f"calls: {dialect.syntax.shape}".replace("\n", " "))
    print_line(f"conformance: passed with {_NUM_BOXES} boxes")
    if proposal.known:
        known = ", ".join(proposal.known)
        print_line(f"note: models of this type have a dialect already: {known}")
    for decision in proposal.decisions:
        line = _line_of(text, decision)
        print_line(("decide", "yellow"), f" {module}.py, line {line}: {decision.question}")
        for option in decision.options:
            print_line(f"    {option}")


def _line_of(text: str, decision: Decision) -> int:
    lines = text.splitlines()
    start = re.compile(rf"\s*(# )?{decision.field}=")
    return next(number for number, line in enumerate(lines, start=1) if start.match(line))
