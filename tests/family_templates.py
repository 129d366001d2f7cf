"""Chat templates of model families for tests, by `model_type`.

Real templates are read from the installed packages, never copied: most from TRL, the one of Llama 4 from transformers. A hash
per file makes a changed template fail. Families whose template no package contains have a stand-in in `tests/templates`: our
own text with what decides how a conversation is carried (marks of turns, order of the system text, place of results, dropped
thoughts, trimmed text, content as text or parts, the prompt for a turn). A stand-in proves nothing about a checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

STAND_INS = Path(__file__).parent / "templates"

TRL_HASHES = {
    "qwen2_5_vl": "a0bc6f6fc7a29a80",
    "qwen3_vl": "3636d0f0bd6bef02",
    "qwen3_5_think": "a4aee8afcf2e0711",
    "qwen3_5_nothink": "273d8e0e683b8850",
    "qwen3_6": "e84f32a23fdda276",
    "qwen3_8": "c3cf9e34abf4f9e3",
    "gemma3": "7de1c58e208eda46",
    "gemma4": "33204f1acb5bd000",
    "gemma4_v2": "55572b8d3c834204",
    "gemma4_v3": "781d10940fbc44be",
    "gemma4_v4": "2f1b4d75d067bae3",
    "gemma4_v5": "0a2c8073c878ab1d",
    "diffusion_gemma": "9aeb7eac68ad87bb",
    "smolvlm": "830005085ddd94ce",
    "idefics3": "0d7e56ca41705b79",
    "lfm2_2_5_vl": "86f4770449a4797c",
    "llava_next": "2c17243a977fd064",
    "glm4moe": "44f815868bf02fa4",
    "muse_glimmer": "cfc67e5f349f3769",
}
"""file of `trl/chat_templates` -> first characters of its SHA-256"""

TRL_FILES = {
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl",
    "qwen3_5": "qwen3_5_think",
    "qwen3_5_moe": "qwen3_6",
    "qwen3_8": "qwen3_8",
    "gemma3": "gemma3",
    "gemma4": "gemma4_v5",
    "gemma4_unified": "gemma4_v5",
    "diffusion_gemma": "diffusion_gemma",
    "smolvlm": "smolvlm",
    "idefics3": "idefics3",
    "lfm2_vl": "lfm2_2_5_vl",
    "llava_next": "llava_next",
    "muse_glimmer": "muse_glimmer",
}
"""model type, or `qwen3_8`, which shares the type of Qwen3.5 -> file of `trl/chat_templates`"""

SAME_STAND_IN = {
    "glm4v_moe": "glm4v",
    "glm46v": "glm4v",
    "minicpmv4_7": "minicpmv4_6",
    "deepseek_vl_hybrid": "deepseek_vl",
}


class FamilyTemplate(NamedTuple):
    """Chat template of a family."""

    text: str
    source: str
    """`trl`, `transformers` or `stand-in`"""


def trl_template(name: str) -> FamilyTemplate:
    """Return a template of the installed TRL; skip the test without TRL, fail if the file has changed."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("needs the chat templates of TRL")
    content = (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_bytes()
    found = hashlib.sha256(content).hexdigest()[:16]
    assert found == TRL_HASHES[name], (
        f"{name}.jinja of TRL has changed to {found}: review it, then update TRL_HASHES"
    )
    return FamilyTemplate(content.decode(), "trl")


@cache
def family_template(model_type: str) -> FamilyTemplate:
    """Return the chat template of a model type.

    >>> family_template("internvl").source
    'stand-in'
    """
    if model_type in TRL_FILES:
        return trl_template(TRL_FILES[model_type])
    if model_type == "llama4":
        module = pytest.importorskip("transformers.models.llama4.processing_llama4")
        return FamilyTemplate(module.chat_template, "transformers")
    path = STAND_INS / f"{SAME_STAND_IN.get(model_type, model_type)}.jinja"
    return FamilyTemplate(path.read_text(encoding="utf-8"), "stand-in")


def model_types() -> list[str]:
    """Return all keys of `family_template`."""
    own = [path.stem for path in STAND_INS.glob("*.jinja")]
    return sorted([*TRL_FILES, "llama4", *own, *SAME_STAND_IN])


def renderer(text: str, **options: Any) -> Callable[..., str]:
    """Return the function that renders messages as `apply_chat_template` of transformers does.

    Args:
        text: the template.
        options: variables of the template, such as `enable_thinking`.
    """
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    compiled = utils._compile_jinja_template(text)
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}

    def render(messages: list[dict[str, Any]], **more: Any) -> str:
        result: str = compiled.render(messages=messages, **{**tokens, **options, **more})
        return result

    return render
