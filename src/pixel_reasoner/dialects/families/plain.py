r"""Fallback dialect for instruction-following models: hosted services, families without a dialect.

Boxes are fractions, because the size after image preprocessing is unknown. A number precedes every picture. Operations
are listed by the server (`native_system`) or in the system message.
"""

from __future__ import annotations

from collections.abc import Mapping

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.families._common import (
    WITHOUT_OPERATIONS,
    advice,
    picture_label,
    result_labels,
)
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.dialects.syntax.hermes import list_tools
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudget, PixelBudgets


def _texts_for(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
    text = advice(list(definitions))
    return OperationTexts(list_tools(list(definitions.values()), text), native_system=text)


_TOOLS = [roles.get_definition(operation) for operation in DEFAULT_OPERATIONS]
_ADVICE = advice(DEFAULT_OPERATIONS)

PLAIN = register(
    Dialect(
        name="plain",
        models="hosted services, and every model without a dialect of its own",
        budgets=PixelBudgets(
            picture=PixelBudget(min_px=256 * 256, max_px=1536 * 1536),
            crop=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
            frame=PixelBudget(min_px=64 * 64, max_px=512 * 512),
            selected_frame=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
            multiple=32,
        ),
        system_with_operations=list_tools(_TOOLS, _ADVICE),
        system_without_operations=WITHOUT_OPERATIONS,
        texts_for=_texts_for,
        picture_label=picture_label,
        result_labels=result_labels,
        error_template="That call was refused: {why}",
        tools=_TOOLS,
        native_system=_ADVICE,
        separates_thoughts=True,
    )
)
