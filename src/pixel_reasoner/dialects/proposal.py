"""Proposal of a dialect for a model, from what its chat template does, and the decisions that only its user can take.

    proposal = propose_dialect("my_model", read_template(render), render, ModelFiles(model_type="my_type"))
    proposal.dialect, proposal.decisions

Unit and order of boxes are always a decision: no number tells them, because `[0, 0, 1, 1]` is a box in every grid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pixel_reasoner.dialects import boxes
from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.boxes import BoxCoordinates
from pixel_reasoner.dialects.carriage import TEXT, Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families._common import (
    RESPONSE_TAGS,
    family_dialect,
    tile_budgets,
    token_budgets,
)
from pixel_reasoner.dialects.registry import DIALECTS
from pixel_reasoner.dialects.syntax.catalogue import CALL_SYNTAXES
from pixel_reasoner.dialects.template_check import assert_template_supports, thought_problem
from pixel_reasoner.dialects.template_facts import THOUGHT_TAGS, RenderTemplate, TemplateFacts
from pixel_reasoner.errors import ModelError
from pixel_reasoner.schema.settings import PixelBudgets

BOX_GRIDS: Mapping[str, BoxCoordinates] = {
    "fractions": boxes.FRACTIONS,
    "fine_fractions": boxes.FINE_FRACTIONS,
    "thousandths": boxes.THOUSANDTHS,
    "thousandths_yx": boxes.THOUSANDTHS_YX,
    "nines": boxes.NINES,
    "pixels": boxes.PIXELS,
}
"""units and orders of boxes, by name"""
DEFAULT_SYNTAX = "hermes"
"""calls in the text of a family that was not trained on tools: JSON, which most models know"""
_STYLE = ("thought_template", "separators", "header", "opens_thought")
"""fields of a dialect with the same calls and thoughts that are taken over"""


class ModelFiles(NamedTuple):
    """What the files of a model folder say, without its template."""

    model_type: str = ""
    processor: Mapping[str, Any] = {}
    """settings of the image processor"""


class Decision(NamedTuple):
    """Value that only the user of a model knows."""

    field: str
    """field of the dialect; the written module has a line with it"""
    question: str
    options: tuple[str, ...] = ()


class Value(NamedTuple):
    """Value of a field, and the Python expression that the written module has."""

    value: Any
    expression: str


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Proposed dialect."""

    dialect: Dialect
    fields: dict[str, Value]
    """fields of `family_dialect`, with expressions for a module"""
    decisions: tuple[Decision, ...]
    known: tuple[str, ...] = field(default=())
    """registered dialects for models of this type"""


def propose_dialect(
    name: str,
    facts: TemplateFacts,
    render: RenderTemplate,
    files: ModelFiles,
    grid: str | None = None,
) -> Proposal:
    """Return a proposal.

    Args:
        name: of the dialect.
        facts: of the template.
        render: renders the template.
        files: other files of the model.
        grid: name in `BOX_GRIDS`; None: a decision, and fractions until then.

    Raises:
        ModelError: no way to carry operations and their results through the template.
    """
    known = tuple(
        one
        for one, other in DIALECTS.items()
        if other.match is not None and files.model_type in other.match.model_types
    )
    fields = {
        "name": _literal(name),
        "models": _literal(f"models of type {files.model_type}" if files.model_type else name),
        "match": _match(name, files.model_type, known),
        "grid": Value(BOX_GRIDS[grid or "fractions"], f'BOX_GRIDS["{grid or "fractions"}"]'),
        "budgets": processor_budgets(files.processor) or _default_budgets(),
        **_calls(facts),
        **_thoughts(facts),
    }
    carriage = _carriage(fields, facts, render)
    fields |= carriage
    dialect = _build(fields)
    decisions = _decisions(facts, files, grid, carriage["carriage"].value)
    return Proposal(dialect=dialect, fields=fields, decisions=tuple(decisions), known=known)


def _literal(value: Any) -> Value:
    is_text = isinstance(value, str)
    return Value(value, json.dumps(value, ensure_ascii=False) if is_text else repr(value))


def _build(fields: Mapping[str, Value]) -> Dialect:
    return family_dialect(**{name: one.value for name, one in fields.items()})


def _match(name: str, model_type: str, known: tuple[str, ...]) -> Value:
    """Return the models of a new type, or else checkpoints with the name of the dialect."""
    if model_type and not known:
        types = (model_type,)
        return Value(ModelMatch(model_types=types), f'ModelMatch(model_types=("{model_type}",))')
    return Value(ModelMatch(checkpoints=re.escape(name)), f'ModelMatch(checkpoints="{name}")')


# --- calls and thoughts ---


def _calls(facts: TemplateFacts) -> dict[str, Value]:
    name = facts.syntax or DEFAULT_SYNTAX
    known = CALL_SYNTAXES[name]
    return {
        "syntax": Value(known.syntax, f'CALL_SYNTAXES["{name}"].syntax'),
        "list_tools": Value(known.list_tools, f'CALL_SYNTAXES["{name}"].list_tools'),
    }


def _thoughts(facts: TemplateFacts) -> dict[str, Value]:
    """Return marks of thoughts, and the form of a turn: that of a dialect with the same calls and marks, if there is one."""
    if facts.thought_tags is None:
        return {"thought_template": _literal(" {words}")} if facts.writes_blank else {}
    tags = THOUGHT_TAGS[facts.thought_tags]
    fields = {"thought_tags": Value(tags, f'THOUGHT_TAGS["{facts.thought_tags}"]')}
    syntax = CALL_SYNTAXES[facts.syntax or DEFAULT_SYNTAX].syntax
    like = next(
        (
            one
            for _, one in DIALECTS.items()
            if (one.syntax, one.thought_tags, one.opens_thought, one.separates_thoughts)
            == (syntax, tags, facts.opens_thought, True)
        ),
        None,
    )
    if like is not None:
        default = Dialect.__dataclass_fields__
        return fields | {
            name: _literal(getattr(like, name))
            for name in _STYLE
            if getattr(like, name) != default[name].default
        }
    if facts.opens_thought:
        fields["opens_thought"] = _literal(True)
        fields["thought_template"] = _literal(f"{{words}}\n{tags.close}\n\n")
    else:
        fields["thought_template"] = _literal(f"{tags.open}{{words}}{tags.close}")
    return fields | {"separators": _literal(("", ""))}


# --- carriage ---


def _carriage(
    fields: dict[str, Value], facts: TemplateFacts, render: RenderTemplate
) -> dict[str, Value]:
    """Return the first way to carry a conversation of which the template leaves out nothing, and keeps the thoughts.

    Raises:
        ModelError: there is none.
    """
    dropping: dict[str, Value] | None = None
    error: ModelError | None = None
    for carriage, response in _ways(facts):
        tried = {"carriage": Value(carriage, carriage_expression(carriage))}
        if any(response):
            tried["response"] = _literal(response)
        dialect = _build(fields | tried)
        try:
            assert_template_supports(render, dialect, "the model")
        except ModelError as problem:
            error = error or problem
            continue
        if thought_problem(render, dialect) is None:
            return tried
        dropping = dropping or tried
    if dropping is None:
        assert error is not None, "every way was tried"
        raise error
    carriage = Carriage(**{**vars(dropping["carriage"].value), "keeps_thoughts": False})
    return {**dropping, "carriage": Value(carriage, carriage_expression(carriage))}


def _ways(facts: TemplateFacts) -> Iterator[tuple[Carriage, tuple[str, str]]]:
    """Yield ways to carry a conversation, the simplest first, and the text around results."""
    base: dict[str, Any] = {
        "system_role": facts.has_system_role,
        "joins_texts": facts.trims,
        "writes_blank": facts.writes_blank,
    }
    reasoning = [""] + ([facts.reasoning_field] if facts.reasoning_field else [])
    for key in reasoning:
        kept = {**base, "reasoning_field": key}
        yield Carriage(**kept), ("", "")
        yield Carriage(**kept), RESPONSE_TAGS
        yield Carriage(**kept, result_role="tool"), ("", "")
    if facts.syntax is not None:
        native = {**base, "result_role": "tool", "native_calls": True}
        for key in reasoning:
            moves = facts.moves_words and bool(key)
            yield Carriage(**native, reasoning_field=key, words_in_reasoning=moves), ("", "")


def carriage_expression(carriage: Carriage) -> str:
    """Return the Python expression of a carriage, without its defaults.

    >>> carriage_expression(Carriage(result_role="tool"))
    "Carriage(result_role='tool')"
    """
    usual = vars(TEXT)
    changed = [f"{key}={one!r}" for key, one in vars(carriage).items() if one != usual[key]]
    return f"Carriage({', '.join(changed)})"


# --- budgets ---


def processor_budgets(settings: Mapping[str, Any]) -> Value | None:
    """Return the pixel budgets of an image processor; None if its settings have another form.

    >>> processor_budgets({"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 1003520}).expression
    'token_budgets(28, 1280, min_tokens=4)'
    >>> processor_budgets({"size": {"height": 448, "width": 448}, "max_patches": 12}).expression
    'tile_budgets(448, 12)'
    """
    size = settings.get("size") or {}
    side = settings.get("patch_size", 0), settings.get("merge_size", 0)
    low = settings.get("min_pixels") or size.get("shortest_edge")
    high = settings.get("max_pixels") or size.get("longest_edge")
    if all(isinstance(one, int) and one > 0 for one in (*side, low, high)):
        unit = side[0] * side[1]
        least, most = max(1, low // unit**2), max(1, high // unit**2)
        expression = f"token_budgets({unit}, {most}, min_tokens={least})"
        return Value(token_budgets(unit, most, min_tokens=least), expression)
    tiles, edge = settings.get("max_patches"), size.get("height")
    if isinstance(tiles, int) and isinstance(edge, int) and min(tiles, edge) > 0:
        return Value(tile_budgets(edge, tiles), f"tile_budgets({edge}, {tiles})")
    return None


def _default_budgets() -> Value:
    budgets: PixelBudgets = token_budgets(28, 1280)
    return Value(budgets, "token_budgets(28, 1280)")


# --- decisions ---


def _decisions(
    facts: TemplateFacts, files: ModelFiles, grid: str | None, carriage: Carriage
) -> Iterator[Decision]:
    if grid is None:
        yield Decision(
            "grid",
            "in which unit and order does the model write boxes? Its card or paper says so; no number does",
            tuple(f"{name}: {one.words}, as {one.order.names}" for name, one in BOX_GRIDS.items()),
        )
    if facts.syntax is None:
        seen = f" It writes {facts.call_text[:200]!r}" if facts.call_text else ""
        what = "writes calls in an unknown form" if facts.call_text else "writes no calls"
        yield Decision(
            "syntax",
            f"the template {what}; JSON in <tool_call> tags is proposed.{seen}",
            tuple(f"{name}: {one.families}" for name, one in CALL_SYNTAXES.items()),
        )
    if facts.thought_tags is None:
        yield Decision(
            "thought_tags",
            "the template writes no thoughts; between which marks does the model think, if it does?",
            tuple(f"{name}: {one.open!r} {one.close!r}" for name, one in THOUGHT_TAGS.items()),
        )
    if processor_budgets(files.processor) is None:
        yield Decision(
            "budgets",
            "how many pixels does a picture in the prompt have? The settings of the image processor have another form",
            (
                "token_budgets(SIDE_PX, MAX_TOKENS): one visual token per square of this side",
                "tile_budgets(TILE_PX, MAX_TILES): tiles of this side",
            ),
        )
    if not carriage.keeps_thoughts:
        yield Decision(
            "carriage",
            "the template deletes or repeats thoughts of earlier turns, so that training is refused; correct it for training",
        )
