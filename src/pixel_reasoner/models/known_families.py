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
    'a9c9e5b4c8c1d8f7'
    """
    return hashlib.sha256(template.encode()).hexdigest()[:16]


TESTED_TEMPLATES: dict[str, tuple[TestedTemplate, ...]] = {}
"""model type -> chat templates of the tests"""
