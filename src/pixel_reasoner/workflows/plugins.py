"""Plug-ins that are installed: what other packages add, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pixel_reasoner.dialects import DIALECTS
from pixel_reasoner.errors import PluginError
from pixel_reasoner.evals.benchmark import BENCHMARKS
from pixel_reasoner.media.transforms import TRANSFORMS
from pixel_reasoner.models.registry import MODELS
from pixel_reasoner.operations.registry import OPERATIONS
from pixel_reasoner.registry import Registry
from pixel_reasoner.reports.sections import SECTIONS
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.scoring.rewards import REWARDS
from pixel_reasoner.sources.base import SOURCES

REGISTRIES: tuple[Registry[Any], ...] = (
    *(OPERATIONS, TRANSFORMS, DIALECTS, BENCHMARKS, REWARDS),
    *(SOURCES, MODELS, STRATEGIES, SECTIONS),
)
"""registries that other packages add to"""


class Plugin(NamedTuple):
    """One item of another package."""

    kind: str
    name: str
    place: str
    """module, attribute and distribution"""
    error: PluginError | None
    """why it cannot be used"""


def installed_plugins() -> Iterator[Plugin]:
    """Import and check all items of other packages."""
    for registry in REGISTRIES:
        broken = registry.broken()
        for name, place in registry.plugins().items():
            yield Plugin(registry.kind, name, place, broken.get(name))
