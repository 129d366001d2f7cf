"""How a model family is offered operations, calls them and is answered. One file a dialect."""

from pixel_reasoner.answers import boxed
from pixel_reasoner.dialects.compact import COMPACT
from pixel_reasoner.dialects.hermes import Answer, HermesDialect, Malformed, Message
from pixel_reasoner.dialects.pixel_reasoner import PIXEL_REASONER
from pixel_reasoner.errors import UsageError

DIALECTS = {dialect.name: dialect for dialect in (COMPACT, PIXEL_REASONER)}

__all__ = [
    "COMPACT",
    "DIALECTS",
    "PIXEL_REASONER",
    "Answer",
    "HermesDialect",
    "Malformed",
    "Message",
    "boxed",
    "dialect_named",
]


def dialect_named(name: str) -> HermesDialect:
    """The dialect of that name.

    Raises:
        UsageError: there is none.

    >>> dialect_named("compact").padding
    0.0
    """
    if name not in DIALECTS:
        raise UsageError(
            expected=f"a dialect: {', '.join(DIALECTS)}", got=repr(name), fix="name one of these"
        )
    return DIALECTS[name]
