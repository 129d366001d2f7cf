"""Check of a model folder before it is used: family, files, chat template, tokens, pictures, engine. Needs no weights.

`pixel-reasoner check-model FOLDER` prints the result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES as MODEL_NAMES,
)

from pixel_reasoner.dialects import Dialect, call_marks, get_dialect
from pixel_reasoner.dialects.detect import FALLBACK
from pixel_reasoner.dialects.template_check import (
    assert_template_supports,
    carried_parts,
    example_conversation,
    thought_problem,
)
from pixel_reasoner.errors import ModelError, PixelReasonerError
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.models.engine import fallback_note, folder_support
from pixel_reasoner.models.folder import FolderSettings, budgets_for_processor, folder_settings
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.models.known_families import TESTED_TEMPLATES, UNSUPPORTED, template_digest
from pixel_reasoner.models.local_text import TokenDecoder
from pixel_reasoner.models.local_weights import load_processor
from pixel_reasoner.models.processor_inputs import ProcessorInputs
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture, ToolCall

SOURCE_PX = (1600, 1200)
"""size of the picture whose tokens are counted"""
_MAX_PROMPT = 4000
"""characters of the printed prompt"""


@dataclass
class ModelCheck:
    """Result of the check of a model folder."""

    folder: str
    model_type: str = ""
    architecture: str = ""
    dialect: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """part of the folder -> what was found"""
    template: dict[str, str] = field(default_factory=dict)
    """property of the chat template -> what was found"""
    tokens: dict[str, str] = field(default_factory=dict)
    """property of the tokenizer, or of pictures -> what was found"""
    runs: dict[str, str] = field(default_factory=dict)
    """how it generates and receives videos"""
    prompt: str = ""
    """rendered prompt of a question with a call and its result"""
    problems: list[dict[str, str]] = field(default_factory=list)
    """expected, got and fix of everything that prevents its use"""

    def add_problem(self, error: PixelReasonerError) -> None:
        """Add a problem."""
        self.problems.append({"expected": error.expected, "got": error.got, "fix": error.fix})


def check_model(source: str, dialect: str | None = None) -> ModelCheck:
    """Check a model folder.

    Args:
        source: folder, name of a bundled model, or hub id.
        dialect: overrides the detected dialect.

    Raises:
        ModelError: no such folder.
        UsageError: unknown dialect.

    >>> check_model("tiny").problems
    []
    >>> check_model("tiny").runs["generation"]
    'engine (family qwen3_vl), with a KV cache per conversation'
    """
    folder = local_model(source)
    check = ModelCheck(str(source))
    _check_config(check, folder)
    _check_weights(check, folder)
    if check.problems:
        return check
    settings = _settings(check, folder, dialect)
    try:
        processor = load_processor(str(folder))
    except ModelError as error:
        check.files["processor, tokenizer, template"] = "unusable"
        check.add_problem(error)
        return check
    check.files["processor"] = type(processor).__name__
    check.files["tokenizer"] = (
        f"{type(processor.tokenizer).__name__}, {len(processor.tokenizer)} tokens"
    )
    check.runs["generation"] = _generation(check, folder)
    if settings is not None:
        found = get_dialect(settings.dialect)
        _check_template(check, processor, found)
        _check_tokens(check, processor, found)
        _check_pictures(check, processor, settings)
    return check


# --- folder ---


def _check_config(check: ModelCheck, folder: Path) -> None:
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - transformers raises any type
        lines = str(error).strip().splitlines() or [type(error).__name__]
        check.files["config"] = "unusable"
        check.add_problem(
            ModelError(
                expected="a config.json of a model type that this transformers knows",
                got=f"{folder}: {lines[0][:200]}",
                fix="copy config.json of the original model, update transformers, or serve the model and use --endpoint",
            )
        )
        return
    check.model_type = str(config.model_type)
    check.architecture = ", ".join(config.architectures or ["not named"])
    check.files["config"] = f"{type(config).__name__}, model type {check.model_type}"
    reason = UNSUPPORTED.get(check.model_type)
    if check.model_type not in MODEL_NAMES:
        reason = "transformers does not list it as a model of pictures and text"
    if reason is not None:
        check.add_problem(
            ModelError(
                expected="a model type that answers questions about pictures in a chat",
                got=f"{check.model_type}: {reason}",
                fix="use another model, or serve it and use --endpoint",
            )
        )


def _settings(check: ModelCheck, folder: Path, dialect: str | None) -> FolderSettings | None:
    """Return the settings of a folder with its dialect; None if two dialects match."""
    try:
        settings = folder_settings(folder, dialect)
    except PixelReasonerError as error:
        if dialect is not None:
            raise
        check.add_problem(error)
        return None
    check.dialect = settings.dialect
    chosen = dialect is not None or (folder / "pixel_reasoner.json").is_file()
    if settings.dialect == FALLBACK and not chosen:
        check.add_problem(
            ModelError(
                expected="a model family with a dialect",
                got=f"model type {check.model_type or 'unknown'}, for which no dialect matches",
                fix=f"try --dialect {FALLBACK}, or write one: pixel-reasoner new dialect NAME",
            )
        )
    return settings


def _check_weights(check: ModelCheck, folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    found = {path.name for path in folder.glob("*.safetensors")}
    if index.is_file():
        try:
            listed = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            listed = {f"the files of {index.name}, which cannot be read"}
        missing = sorted(listed - found)
    else:
        missing = [] if found else ["model.safetensors"]
    if missing:
        check.files["weights"] = f"missing: {', '.join(missing[:3])}"
    else:
        count = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        check.files["weights"] = f"{len(found)} files, {count / 2**20:,.1f} MiB"


# --- chat template ---


def _check_template(check: ModelCheck, processor: Any, dialect: Dialect) -> None:
    text = str(processor.chat_template)
    digest, tested = template_digest(text), TESTED_TEMPLATES.get(check.model_type, ())
    check.template["hash"] = digest
    same = next((one for one in tested if one.digest == digest), None)
    if not tested:
        check.template["tested"] = "no template of this model type was tested"
    elif same is not None:
        check.template["tested"] = f"yes, this one ({same.source})"
    else:
        names = ", ".join(f"{one.digest} ({one.source})" for one in tested)
        check.template["tested"] = f"template differs from the one tested with: {names}"
    render = partial(processor.apply_chat_template, tokenize=False)
    try:
        assert_template_supports(render, dialect, check.folder)
        check.template |= dict(_template_facts(render, dialect))
        check.prompt = _prompt(render, dialect)
    except PixelReasonerError as error:
        check.add_problem(error)


def _template_facts(render: Callable[..., Any], dialect: Dialect) -> Iterator[tuple[str, str]]:
    for part, is_carried in carried_parts(render, dialect).items():
        yield part, "carried" if is_carried else "left out"
    problem = thought_problem(render, dialect)
    yield "thoughts of earlier turns", problem or "kept"
    yield "several questions", "carried" if _carries_questions(render, dialect) else "rejected"
    yield (
        "tools as a variable",
        "yes" if _offers_tools(render, dialect) else "no, our text lists them",
    )


def _carries_questions(render: Callable[..., Any], dialect: Dialect) -> bool:
    messages = example_conversation(dialect)
    said = {"role": "assistant", "content": [{"type": "text", "text": "It is red."}]}
    asked = {"role": "user", "content": [{"type": "text", "text": "And what is next to it?"}]}
    try:
        return "And what is next to it?" in str(render([*messages, said, asked]))
    except Exception:  # noqa: BLE001 - a template may raise any exception
        return False


def _offers_tools(render: Callable[..., Any], dialect: Dialect) -> bool:
    messages = example_conversation(dialect)
    tools = dialect.tool_definitions(has_video=False)
    try:
        return str(render(messages, tools=tools)) != str(render(messages))
    except Exception:  # noqa: BLE001 - a template may raise any exception
        return False


def _prompt(render: Callable[..., Any], dialect: Dialect) -> str:
    text = str(render(example_conversation(dialect), add_generation_prompt=True))
    return text if len(text) <= _MAX_PROMPT else f"{text[:_MAX_PROMPT]}[...]"


# --- tokens and pictures ---


def _check_tokens(check: ModelCheck, processor: Any, dialect: Dialect) -> None:
    tokenizer = processor.tokenizer
    decode = TokenDecoder(tokenizer, dialect.special_tokens | call_marks())
    first = Picture(number=1, medium=0, source_px=(640, 480), seen_px=(640, 480))
    call = ToolCall(
        name="zoom_in", arguments={"bbox_2d": [0.25, 0.25, 0.5, 0.5], "target_image": 1}
    )
    turn = dialect.write_turn("I look closer.", call, [first])
    ids = tokenizer(turn, add_special_tokens=False)["input_ids"]
    kept = decode(list(ids)) == turn
    check.tokens["a call after decoding"] = (
        "unchanged" if kept else f"changed: {decode(list(ids))!r}"
    )
    special = sorted(dialect.special_tokens & set(tokenizer.all_special_tokens))
    check.tokens["special tokens kept in decoding"] = " ".join(special) or "none needed"
    mark = str(getattr(processor, "image_token", "") or "")
    unknown = {None, tokenizer.unk_token_id}
    if mark and (
        len(ids := tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1 or ids[0] in unknown
    ):
        check.add_problem(
            ModelError(
                expected=f"a tokenizer with the placeholder {mark} of a picture as one token",
                got=f"{len(ids)} tokens for it",
                fix="copy tokenizer.json and tokenizer_config.json of the original model again",
            )
        )


def _check_pictures(check: ModelCheck, processor: Any, settings: FolderSettings) -> None:
    budgets = budgets_for_processor(settings, processor.image_processor)
    budgets = budgets or get_dialect(settings.dialect).budgets
    inputs = ProcessorInputs(processor)
    crop_px = (SOURCE_PX[0] // 2, SOURCE_PX[1] // 2)
    try:
        for name, size, budget in (
            ("overview", SOURCE_PX, budgets.picture),
            ("crop of half of each side", crop_px, budgets.crop),
        ):
            check.tokens[name] = _tokens_of(inputs, size, budget, budgets)
    except Exception as error:  # noqa: BLE001 - a processor raises any type
        if not check.problems:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            check.add_problem(
                ModelError(
                    expected="a processor and a chat template that agree on the placeholder of a picture",
                    got=lines[0][:200],
                    fix="copy chat template, tokenizer and processor of the original model into the folder again",
                )
            )
    video = getattr(processor, "video_processor", None)
    native = f"{type(video).__name__} is not used" if video is not None else "it has no video input"
    check.runs["video"] = f"sent as pictures of frames with their times; {native}"


def _tokens_of(
    inputs: ProcessorInputs, size: Size, budget: PixelBudget, budgets: PixelBudgets
) -> str:
    sent = fit_size(size, budget, budgets.multiple)
    count = inputs.count_tokens(Image.new("RGB", sent))
    return f"{count} tokens for {size[0]} x {size[1]} px, sent as {sent[0]} x {sent[1]} px"


def _generation(check: ModelCheck, folder: Path) -> str:
    reason = folder_support(folder)
    if reason is None:
        return f"engine (family {check.model_type}), with a KV cache per conversation"
    return fallback_note(reason)


__all__ = ["ModelCheck", "check_model"]
