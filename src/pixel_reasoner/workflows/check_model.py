"""Check of a model folder, without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.errors import require_extra

if TYPE_CHECKING:
    from pixel_reasoner.models.check_model import ModelCheck


def check_model(source: str, dialect: str | None = None) -> ModelCheck:
    """Check a model folder without its weights: family, files, chat template, tokens of pictures, engine.

    Args:
        source: folder, hub id or name of a bundled model.
        dialect: overrides the detected dialect.

    Raises:
        UsageError: unknown dialect, or packages that are not installed.
        ModelError: no such folder.

    >>> check = check_model("tiny")
    >>> check.dialect, check.tokens["overview"]
    ('compact', '37 tokens for 1600 x 1200 px, sent as 224 x 160 px')
    """
    with require_extra("local", "check-model"):
        from pixel_reasoner.models.check_model import check_model as run_check
    return run_check(source, dialect)
