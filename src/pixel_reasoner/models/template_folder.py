"""Chat template and settings of a model folder, read from its files: no weights and no code of the model are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.dialects.proposal import ModelFiles
from pixel_reasoner.dialects.template_facts import RenderTemplate, TemplateFacts, read_template
from pixel_reasoner.errors import ModelError, require_extra
from pixel_reasoner.files import reason

_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_FIX = "give a folder that `save_pretrained` of a model and its processor wrote"


class TemplateFolder(NamedTuple):
    """Chat template of a folder, with what it does."""

    render: RenderTemplate
    facts: TemplateFacts
    files: ModelFiles


def read_template_folder(folder: Path) -> TemplateFolder:
    """Return the template of a folder.

    Raises:
        ModelError: no folder, no image processor, no template, one that raises or leaves out pictures, or a tokenizer without
            the placeholder of a picture.
        UsageError: transformers is not installed.
    """
    if not folder.is_dir():
        raise ModelError(expected="a model folder", got=f"{folder}, which is none", fix=_FIX)
    processor = _image_processor(folder)
    tokenizer = _json(folder / "tokenizer_config.json")
    render = _renderer(_template(folder, tokenizer), tokenizer)
    facts = read_template(render)
    _check_placeholder(folder, facts.image_text, tokenizer)
    model_type = _json(folder / "config.json").get("model_type")
    name = model_type if isinstance(model_type, str) else ""
    return TemplateFolder(render, facts, ModelFiles(name, processor))


def _image_processor(folder: Path) -> Mapping[str, Any]:
    """Return the settings of the image processor."""
    for name in _PROCESSOR_FILES:
        settings = _json(folder / name)
        inner = settings.get("image_processor", settings)
        if isinstance(inner, dict) and ("size" in inner or "image_processor_type" in inner):
            return inner
    raise ModelError(
        expected="a folder with an image processor",
        got=f"{folder} without settings of one in {' or '.join(_PROCESSOR_FILES)}",
        fix=_FIX,
    )


def _template(folder: Path, tokenizer: Mapping[str, Any]) -> str:
    """Return the text of the chat template: a file of its own, or in the settings of the processor or tokenizer."""
    own = folder / _TEMPLATE_FILES[0]
    if own.is_file():
        return _text(own)
    sources = (
        _json(folder / _TEMPLATE_FILES[1]),
        _json(folder / "processor_config.json"),
        tokenizer,
    )
    for settings in sources:
        template = settings.get("chat_template")
        if isinstance(template, str) and template.strip():
            return template
    raise ModelError(
        expected="a folder with a chat template",
        got=f"{folder} without {_TEMPLATE_FILES[0]} and without one in other files",
        fix="save the template of the model there; a base model has none",
    )


def _renderer(template: str, tokenizer: Mapping[str, Any]) -> RenderTemplate:
    """Return the function that renders a template as transformers does."""
    with require_extra("local", "render chat templates"):
        from transformers.utils.chat_template_utils import render_jinja_template
    tokens = {
        name: _token(tokenizer.get(name))
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
    }

    def render(messages: list[dict[str, Any]], **options: Any) -> str:
        rendered, _ = render_jinja_template([messages], chat_template=template, **tokens, **options)
        text: str = rendered[0]
        return text

    return render


def _token(value: Any) -> str:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""


def _check_placeholder(folder: Path, image_text: str, tokenizer: Mapping[str, Any]) -> None:
    """Raise an error unless the template writes pictures, and the tokenizer has a token for them.

    Raises:
        ModelError: it does not.
    """
    if not image_text:
        raise ModelError(
            expected="a chat template that renders pictures",
            got=f"that of {folder}, which leaves them out",
            fix="give the folder of a vision-language model",
        )
    path = folder / "tokenizer.json"
    if not path.is_file():  # another kind of tokenizer, whose tokens are in its settings
        added = tokenizer.get("added_tokens_decoder") or {}
        tokens = {_token(one) for one in added.values()} if isinstance(added, dict) else set()
        if not tokens:
            return
    else:
        content = _json(path)
        added = content.get("added_tokens") or []
        model = content.get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        tokens = {_token(one) for one in added}
        tokens |= {one for one in vocabulary or () if isinstance(one, str) and len(one) > 3}
    if not any(one and one in image_text for one in tokens):
        raise ModelError(
            expected=f"a tokenizer with the placeholder of a picture, {image_text!r}",
            got=f"that of {folder} without it",
            fix="use the tokenizer of the model, or correct the template",
        )


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty if there is no such file.

    Raises:
        ModelError: it is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise ModelError(
            expected="a JSON file", got=f"{path}: {reason(error)}", fix=_FIX
        ) from error
    if not isinstance(content, dict):
        raise ModelError(expected="a JSON object", got=f"{path} with another value", fix=_FIX)
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            expected="a readable file", got=f"{path}: {reason(error)}", fix=_FIX
        ) from error
