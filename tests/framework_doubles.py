"""Doubles of the base classes of training frameworks, for tests where the frameworks are not installed.

`skyrl_gym` and `agent_loop` are the installed modules, or doubles with the part of their protocol that our adapters use.
`make adapters` runs the same tests with the packages.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from types import ModuleType
from typing import Any


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _installed(name: str) -> ModuleType | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(str(error.name)):  # one of its own dependencies is missing
            raise
        return None


def _double_of_skyrl_gym() -> ModuleType:
    """Double of skyrl_gym 0.4."""

    class BaseTextEnv:
        def __init__(self) -> None:
            self.turns, self.max_turns = 0, 1

        def close(self) -> None:
            pass

    registry: dict[str, tuple[str, dict[str, Any]]] = {}

    def register(name: str, target: str, kwargs: dict[str, Any]) -> None:
        registry[name] = (target, kwargs)

    def make(name: str, **more: Any) -> Any:
        target, kwargs = registry[name]
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)(**kwargs, **more)

    package = _module("skyrl_gym", register=register, make=make)
    _module("skyrl_gym.envs")
    _module("skyrl_gym.envs.registration", registry=registry)
    _module("skyrl_gym.envs.base_text_env", BaseTextEnv=BaseTextEnv, BaseTextEnvStepOutput=dict)
    return package


def _double_of_agent_loop() -> ModuleType:
    """Double of verl's agent loops, version 0.9.1."""
    from pydantic import BaseModel

    class AgentLoopMetrics(BaseModel):
        generate_sequences: float = 0.0
        tool_calls: float = 0.0

    class AgentLoopOutput(BaseModel):
        prompt_ids: list[int]
        response_ids: list[int]
        response_mask: list[int]
        response_logprobs: list[float] | None = None
        multi_modal_data: dict[str, Any] | None = None
        reward_score: float | None = None
        num_turns: int = 0
        metrics: AgentLoopMetrics
        extra_fields: dict[str, Any] = {}

    class AgentLoopBase:
        def __init__(
            self,
            trainer_config: Any,
            server_manager: Any,
            tokenizer: Any,
            processor: Any,
            dataset_cls: Any,
            data_config: Any,
            hf_model_type: str | None = None,
            **kwargs: Any,
        ) -> None:
            self.config = trainer_config.config
            self.rollout_config = self.config.actor_rollout_ref.rollout
            self.server_manager, self.tokenizer, self.processor = (
                server_manager,
                tokenizer,
                processor,
            )
            self.apply_chat_template_kwargs = data_config.config.get(
                "apply_chat_template_kwargs", {}
            )
            self.loop = asyncio.get_running_loop()

    registry: dict[str, dict[str, str]] = {}

    def register(name: str) -> Any:
        def decorator(kind: type) -> type:
            registry[name] = {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
            return kind

        return decorator

    for name in ("verl", "verl.experimental", "verl.experimental.agent_loop"):
        _module(name)
    return _module(
        "verl.experimental.agent_loop.agent_loop",
        AgentLoopBase=AgentLoopBase,
        AgentLoopOutput=AgentLoopOutput,
        register=register,
        _agent_loop_registry=registry,
    )


agent_loop: Any = _installed("verl.experimental.agent_loop.agent_loop") or _double_of_agent_loop()
skyrl_gym: Any = _installed("skyrl_gym") or _double_of_skyrl_gym()
