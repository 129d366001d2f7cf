"""All call syntaxes by name, each with the function that lists tools as its families expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pixel_reasoner.dialects.syntax import (
    function_xml,
    functools_json,
    gemma,
    glm,
    hermes,
    intern,
    invoke,
    kimi,
    mistral,
    python_list,
)
from pixel_reasoner.dialects.syntax.base import CallSyntax


class KnownSyntax(NamedTuple):
    """Call syntax with its rendering of tools."""

    syntax: CallSyntax
    list_tools: Callable[[Sequence[dict[str, Any]], str], str]
    """(tools, system text) -> system message"""
    families: str
    """examples"""


CALL_SYNTAXES: Mapping[str, KnownSyntax] = {
    "hermes": KnownSyntax(hermes.HERMES, hermes.list_tools, "Qwen3-VL, MiniCPM-V 4.5"),
    "function_xml": KnownSyntax(
        function_xml.FUNCTION_XML, function_xml.list_tools, "Qwen3.5, Step-3.7, Nemotron"
    ),
    "glm": KnownSyntax(glm.GLM, glm.list_tools, "GLM-4.5V, GLM-4.6V"),
    "glm_compact": KnownSyntax(glm.GLM_COMPACT, glm.list_tools, "GLM-5"),
    "gemma": KnownSyntax(gemma.GEMMA, gemma.list_tools, "Gemma 4"),
    "mistral": KnownSyntax(mistral.MISTRAL, mistral.list_tools, "Mistral Small 3.2"),
    "mistral_list": KnownSyntax(mistral.MISTRAL_LIST, mistral.list_tools, "Pixtral"),
    "lfm": KnownSyntax(python_list.LFM, python_list.list_lfm_tools, "LFM2-VL"),
    "python_lines": KnownSyntax(python_list.PYTHON_LINES, python_list.list_tools, "Llama 4"),
    "kimi": KnownSyntax(kimi.KIMI, kimi.list_tools, "Kimi K2.5"),
    "minimax": KnownSyntax(invoke.MINIMAX, invoke.list_minimax_tools, "MiniMax-M3"),
    "muse": KnownSyntax(invoke.MUSE, invoke.list_muse_tools, "Muse Glimmer"),
    "step": KnownSyntax(invoke.STEP, invoke.list_step_tools, "Step3"),
    "functools": KnownSyntax(
        functools_json.FUNCTOOLS, functools_json.list_tools, "Phi-4-multimodal"
    ),
    "intern": KnownSyntax(intern.INTERN, intern.list_tools, "Intern-S1"),
}
