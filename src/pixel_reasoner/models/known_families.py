"""Model types of transformers that this project knows: chat templates it was tested with, and types that it cannot use.

`tests/test_families.py` compares both with the installed transformers: a new model type of a release is visible there.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

_NO_CHAT = "it answers fixed task prompts and has no chat template"
_OCR = "it transcribes pages and answers no questions"
_OLD = "its text model is older than tool calls, and newer families replace it"
_GENERATES = "it generates pictures or actions"
_NO_PICTURES_IN_TEXT = "pictures are inputs of cross-attention, not tokens of the prompt"
_NO_FOLDER = "transformers has no processor class for it"
_UNTESTED = "no folder with its classes is tested yet; it may work with --dialect plain"

UNSUPPORTED: dict[str, str] = {
    "aria": _UNTESTED,
    "blip": _NO_CHAT,
    "blip-2": _NO_CHAT,
    "chameleon": _OLD,
    "cosmos3_edge": _UNTESTED,
    "cosmos3_omni": _NO_FOLDER,
    "deepseek_ocr2": _OCR,
    "deepseek_vl_hybrid": _UNTESTED,
    "diffusion_gemma": "it denoises blocks of text, which needs a generation loop of its own; ask over a server",
    "dots3_note": _UNTESTED,
    "emu3": _GENERATES,
    "evolla": "it reads proteins",
    "fast_vlm": _NO_FOLDER,
    "florence2": _NO_CHAT,
    "fuyu": _OLD,
    "git": _NO_CHAT,
    "glm_ocr": _OCR,
    "glmga": _UNTESTED,
    "got_ocr2": _OCR,
    "granite_docling": _OCR,
    "hunyuan_vl": "its processor rejects prompts without pictures",
    "hyperclovax_vision_v2": _UNTESTED,
    "idefics": _OLD,
    "idefics2": _OLD,
    "inkling2": _UNTESTED,
    "inkling_mm_model": _UNTESTED,
    "instructblip": _NO_CHAT,
    "instructblipvideo": _NO_CHAT,
    "janus": _GENERATES,
    "kosmos-2": _NO_CHAT,
    "kosmos-2.5": _OCR,
    "lighton_ocr": _OCR,
    "llava_next_video": _OLD,
    "minicpm_ocr": _OCR,
    "mistral4": "it is a text model; folders with pictures are mistral3",
    "mistral_large4": _UNTESTED,
    "mllama": _NO_PICTURES_IN_TEXT,
    "muse_spark": _UNTESTED,
    "paddleocr_vl": _OCR,
    "paligemma": _NO_CHAT,
    "pi0": _GENERATES,
    "pix2struct": _NO_CHAT,
    "pp_chart2table": _OCR,
    "pp_formulanet": _OCR,
    "qianfan_ocr": _OCR,
    "qwen2_5_omni_thinker": _NO_FOLDER,
    "qwen3_omni_moe_thinker": _NO_FOLDER,
    "shieldgemma2": "it classifies pictures",
    "t5gemma2": _NO_CHAT,
    "udop": _NO_CHAT,
    "unlimited_ocr": _OCR,
    "video_llava": _OLD,
    "vipllava": _OLD,
    "vision-encoder-decoder": _NO_CHAT,
}
"""model type of transformers' image-text-to-text models -> why it is not supported"""


class TestedTemplate(NamedTuple):
    """Chat template that the tests of a model type use."""

    digest: str
    """first characters of its SHA-256"""
    source: str
    """package that contains it, or "stand-in" for our own text with the same roles and marks"""


def template_digest(template: str) -> str:
    """Return the digest of a chat template.

    >>> template_digest("{{ messages }}")
    'f24189f08c85a1eb'
    """
    return hashlib.sha256(template.encode()).hexdigest()[:16]


TESTED_TEMPLATES: dict[str, tuple[TestedTemplate, ...]] = {
    "aya_vision": (TestedTemplate("c835ccbca8609457", "stand-in"),),
    "cohere2_vision": (TestedTemplate("33ea4f4c572cf928", "stand-in"),),
    "cohere_compass": (TestedTemplate("8f61161cf20e9574", "stand-in"),),
    "deepseek_vl": (TestedTemplate("81422ef1a2ab1516", "stand-in"),),
    "ernie4_5_vl_moe": (TestedTemplate("e6c50addbbbceabb", "stand-in"),),
    "exaone4_5": (TestedTemplate("a0bc6f6fc7a29a80", "TRL qwen2_5_vl"),),
    "gemma3": (TestedTemplate("7de1c58e208eda46", "TRL gemma3"),),
    "gemma3n": (TestedTemplate("83a60ea5ab593f6c", "stand-in"),),
    "gemma4": (
        TestedTemplate("0a2c8073c878ab1d", "TRL gemma4_v5"),
        TestedTemplate("33204f1acb5bd000", "TRL gemma4"),
        TestedTemplate("55572b8d3c834204", "TRL gemma4_v2"),
        TestedTemplate("781d10940fbc44be", "TRL gemma4_v3"),
        TestedTemplate("2f1b4d75d067bae3", "TRL gemma4_v4"),
    ),
    "gemma4_unified": (
        TestedTemplate("0a2c8073c878ab1d", "TRL gemma4_v5"),
        TestedTemplate("33204f1acb5bd000", "TRL gemma4"),
        TestedTemplate("55572b8d3c834204", "TRL gemma4_v2"),
        TestedTemplate("781d10940fbc44be", "TRL gemma4_v3"),
        TestedTemplate("2f1b4d75d067bae3", "TRL gemma4_v4"),
    ),
    "glm46v": (TestedTemplate("29fb4859330ce243", "stand-in"),),
    "glm4v": (TestedTemplate("29fb4859330ce243", "stand-in"),),
    "glm4v_moe": (TestedTemplate("29fb4859330ce243", "stand-in"),),
    "glm5_next": (TestedTemplate("b265d614c1eb9d0f", "stand-in"),),
    "granite4_vision": (TestedTemplate("bf620760949526a7", "stand-in"),),
    "idefics3": (TestedTemplate("0d7e56ca41705b79", "TRL idefics3"),),
    "internvl": (TestedTemplate("80e8473437c4436b", "stand-in"),),
    "kimi_k25": (TestedTemplate("1f09409944541e18", "stand-in"),),
    "lfm2_vl": (TestedTemplate("86f4770449a4797c", "TRL lfm2_2_5_vl"),),
    "lfm3_vl": (TestedTemplate("1f444f7a6828fb88", "stand-in"),),
    "llama4": (TestedTemplate("95a231a15c8c976a", "transformers"),),
    "llava": (TestedTemplate("2c17243a977fd064", "TRL llava_next"),),
    "llava_next": (TestedTemplate("2c17243a977fd064", "TRL llava_next"),),
    "llava_onevision": (TestedTemplate("ab8d1cd35998e1b6", "stand-in"),),
    "minicpmv4_6": (TestedTemplate("8f74ada91271b316", "stand-in"),),
    "minicpmv4_7": (TestedTemplate("8f74ada91271b316", "stand-in"),),
    "minimax_m3_vl": (TestedTemplate("03e1e8a93117026e", "stand-in"),),
    "mistral3": (TestedTemplate("8463817ea2864df5", "stand-in"),),
    "molmo2": (TestedTemplate("55c8f150703572e5", "stand-in"),),
    "muse_glimmer": (TestedTemplate("cfc67e5f349f3769", "TRL muse_glimmer"),),
    "nemotron_h_omni": (TestedTemplate("0b873e9aa61e843b", "stand-in"),),
    "ovis2": (TestedTemplate("ab8d1cd35998e1b6", "stand-in"),),
    "perception_lm": (TestedTemplate("95a231a15c8c976a", "transformers"),),
    "phi4_multimodal": (TestedTemplate("727ed58b0ba80876", "stand-in"),),
    "qwen2_5_vl": (TestedTemplate("a0bc6f6fc7a29a80", "TRL qwen2_5_vl"),),
    "qwen2_vl": (TestedTemplate("a0bc6f6fc7a29a80", "TRL qwen2_5_vl"),),
    "qwen3_5": (
        TestedTemplate("e84f32a23fdda276", "TRL qwen3_6"),
        TestedTemplate("a4aee8afcf2e0711", "TRL qwen3_5_think"),
        TestedTemplate("273d8e0e683b8850", "TRL qwen3_5_nothink"),
        TestedTemplate("c3cf9e34abf4f9e3", "TRL qwen3_8"),
    ),
    "qwen3_5_moe": (
        TestedTemplate("e84f32a23fdda276", "TRL qwen3_6"),
        TestedTemplate("a4aee8afcf2e0711", "TRL qwen3_5_think"),
        TestedTemplate("273d8e0e683b8850", "TRL qwen3_5_nothink"),
        TestedTemplate("c3cf9e34abf4f9e3", "TRL qwen3_8"),
    ),
    "qwen3_vl": (
        TestedTemplate("3636d0f0bd6bef02", "TRL qwen3_vl"),
        TestedTemplate("9967bb71f8688b27", "bundled model"),
    ),
    "qwen3_vl_moe": (TestedTemplate("3636d0f0bd6bef02", "TRL qwen3_vl"),),
    "qwen4_exp": (TestedTemplate("c3cf9e34abf4f9e3", "TRL qwen3_8"),),
    "smolvlm": (TestedTemplate("830005085ddd94ce", "TRL smolvlm"),),
    "step3p7": (TestedTemplate("eee3cee3a8244d61", "stand-in"),),
    "video_llama_3": (TestedTemplate("a0bc6f6fc7a29a80", "TRL qwen2_5_vl"),),
}
"""model type -> chat templates of the tests"""
