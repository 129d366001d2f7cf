"""Reward functions that a run names: registered ones, and functions of a module or file."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from pixel_reasoner.errors import PluginError, UnknownNameError, UsageError, one_line
from pixel_reasoner.plugin_checks import is_function
from pixel_reasoner.scoring.rewards import REWARDS, TraceReward


def load_reward(name: str) -> TraceReward:
    """Return a reward function by its name: one of `REWARDS`, `package.module:function` or `file.py:function`.

    Raises:
        UsageError: a name, module, file or function that does not exist, or that cannot be imported.
        PluginError: a registered one that cannot be used, or another thing than a function of a trace.
    """
    module, colon, function = name.rpartition(":")
    try:
        found: Any = getattr(_module(module), function) if colon else REWARDS.get(name)
    except PluginError:
        raise
    except Exception as error:
        unknown = error if isinstance(error, UnknownNameError) else None
        raise UsageError(
            expected="reward functions as package.module:function or file.py:function, or one of"
            f" {', '.join(REWARDS)}",
            got=name if unknown else f"{name}: {type(error).__name__}: {one_line(error)}",
            fix=unknown.fix if unknown else "correct reward_functions",
        ) from error
    is_function("reward", "trace")(name, found)
    reward: TraceReward = found
    return reward


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
