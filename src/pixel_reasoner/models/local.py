"""Local model: any transformers image-text-to-text model, from a folder or a hub id, on a CPU or a GPU.

The chat template in the model folder renders every message; nothing here depends on a model family. Next to the weights
a folder may contain `pixel_reasoner.json` with the dialect of the model, its pixel budgets, and a note for users. Without
that file the dialect is detected from the name, config and chat template of the model.

Models of the families in `engine.families` have a persistent KV cache: a turn after an operation prefills only its new
tokens. Other models prefill the whole conversation in every turn.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from transformers.utils import logging as transformers_logging

from pixel_reasoner.dialects import call_marks, get_dialect
from pixel_reasoner.dialects.template_check import assert_template_supports, thought_problem
from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.models.api import (
    Completion,
    ContextFull,
    GenerationBackend,
    Messages,
    OnText,
    RoundsBackend,
    collect_images,
    generate_turns,
)
from pixel_reasoner.models.engine import engine_support, fallback_note, unwrap_peft
from pixel_reasoner.models.folder import (
    FolderSettings,
    budgets_for_processor,
    folder_settings,
)
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.models.local_backend import LocalBackend
from pixel_reasoner.models.local_generate import generate_with_transformers
from pixel_reasoner.models.local_text import TokenDecoder
from pixel_reasoner.models.local_weights import (
    check_device,
    check_dtype,
    load_processor,
    load_weights,
    weights_fingerprint,
)
from pixel_reasoner.models.patches import (
    COMPILED_FAMILIES,
    compile_layers,
    optimize_vision_encoder,
)
from pixel_reasoner.models.processor_inputs import ProcessorInputs, num_grid_tokens
from pixel_reasoner.schema.settings import ModelInfo, SamplingParams

__all__ = ["LocalModel", "load_processor"]


class LocalModel:
    """Model that runs in this process.

    Args:
        source: name of a bundled model, a folder, or a hub id (downloaded once).
        device: `cpu`, `cuda`, `cuda:1`, ...; by default a GPU if there is one.
        dtype: float32, bfloat16 or float16; by default the dtype of the stored weights, or float32 on a CPU without 16-bit
            matrix products.
        dialect: overrides the dialect of the folder.
        operations: whether rollouts use operations, which the chat template must support.
        compiled: whether norms and MLPs are compiled on first use (`patches.compile_layers`).

    Raises:
        ModelError: the folder or hub id contains no usable model.
        UsageError: an unavailable device, an unknown dtype, an unknown or ambiguous dialect, or a model that cannot be
            compiled.
    """

    note: str
    """remarks for users of this model, for example what it does not support"""

    def __init__(
        self,
        source: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        dialect: str | None = None,
        operations: bool = True,
        compiled: bool = False,
    ) -> None:
        import torch

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        self.name = source
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        check_dtype(dtype)
        check_device(self.device)
        folder = local_model(source)
        settings = folder_settings(folder, dialect)
        processor = load_processor(str(folder))
        self.folder: Path | None = folder
        self._set_up(load_weights(str(folder), dtype, self.device), processor, settings)
        if compiled:
            self._compile()
        if operations:
            render = partial(processor.apply_chat_template, tokenize=False)
            assert_template_supports(render, get_dialect(self.dialect), source)
            if problem := thought_problem(render, get_dialect(self.dialect)):
                self.note = f"{self.note} The chat template {problem}.".strip()

    @classmethod
    def of(cls, weights: Any, processor: Any, settings: FolderSettings) -> Self:
        """Return a model for weights in memory, for example during training. Sets them to `eval` mode."""
        model = cls.__new__(cls)
        model.name, model.folder, model.device = "in training", None, str(weights.device)
        model._set_up(weights, processor, settings)
        return model

    def _set_up(self, weights: Any, processor: Any, settings: FolderSettings) -> None:
        dialect = get_dialect(settings.dialect)
        self.dialect = dialect.name
        self.budgets = budgets_for_processor(settings, processor.image_processor)
        self.note = settings.note
        self.processor = processor
        self.inputs = ProcessorInputs(processor)
        self.tokenizer = processor.tokenizer
        self.model = unwrap_peft(weights.eval())
        self.kept_special_tokens: frozenset[str] = dialect.special_tokens | call_marks()
        self.decode = TokenDecoder(self.tokenizer, self.kept_special_tokens)
        reason = engine_support(self.model)
        self.is_supported_by_engine = reason is None
        self.engine_note = "" if reason is None else fallback_note(reason)
        """why and at what cost `generate` of transformers runs this model; empty if the engine does"""
        self.note = f"{self.note} {self.engine_note}".strip()
        self._backend: GenerationBackend | None = None
        if self.is_supported_by_engine:
            optimize_vision_encoder(self.model)

    def _compile(self) -> None:
        known = self.model.config.model_type in COMPILED_FAMILIES
        if not (known and self.is_supported_by_engine):
            raise UsageError(
                expected=f"--compile with a model of the families {', '.join(COMPILED_FAMILIES)}",
                got=self.model.config.model_type,
                fix="leave it out",
            )
        compile_layers(self.model.model.language_model)

    # --- generation ---

    def open_backend(self) -> GenerationBackend:
        """Return the backend of this model, shared by all its clients."""
        if self._backend is None:
            supported = self.is_supported_by_engine
            self._backend = LocalBackend(self) if supported else RoundsBackend(self)
        return self._backend

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """Return one turn for each conversation, or `ContextFull` if it is too long."""
        if not self.is_supported_by_engine:
            return generate_with_transformers(self, conversations, decoding, on_text)
        # A separate backend, because polling the shared one would take results of its clients.
        on_delta = (lambda text, _: on_text(text)) if on_text else None
        return generate_turns(LocalBackend(self), conversations, decoding, on_delta)

    def describe(self) -> ModelInfo:
        """Return name, class, size, dtype, device and fingerprints of weights and chat template."""
        return self._info

    @cached_property
    def _info(self) -> ModelInfo:
        template = self.processor.chat_template or self.tokenizer.chat_template
        return ModelInfo(
            name=self.name,
            architecture=type(self.model).__name__,
            parameters=sum(p.numel() for p in self.model.parameters()),
            dtype=str(self.model.dtype).removeprefix("torch."),
            device=self.device,
            weights=weights_fingerprint(self.folder) if self.folder else "",
            template=hashlib.sha256(str(template).encode()).hexdigest()[:16],
        )

    # --- prompts and completions ---

    def render(self, messages: Messages) -> str:
        """Return the prompt text of a conversation, with one placeholder for each image."""
        texts: list[str] = self.processor.apply_chat_template(
            [messages], tokenize=False, add_generation_prompt=True
        )
        return texts[0]

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text of a prompt. Marks of the beginning are written by the chat template."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def prompt_inputs(self, conversations: Sequence[Messages]) -> Any:
        """Return the inputs of `forward` of the model: ids, masks and pixels of conversations, padded on the left."""
        texts = [self.render(conversation) for conversation in conversations]
        images = [collect_images(conversation) for conversation in conversations]
        self._check_placeholders(texts, images)
        options = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        # The processor of Llama 4 returns pixels in 16 bits, and weights may have 32.
        return self.inputs.batch(texts, images, **options).to(self.device, self.model.dtype)

    def _check_placeholders(self, texts: Sequence[str], images: Sequence[Sequence[Any]]) -> None:
        """Raise an error if the prompt of a conversation with pictures contains no placeholder of the processor."""
        names = ("image_token", "boi_token", "fake_image_token")
        marks = [one for name in names if (one := getattr(self.processor, name, None))]
        for text, pictures in zip(texts, images, strict=True):
            if pictures and marks and not any(str(mark) in text for mark in marks):
                raise ModelError(
                    expected=f"a chat template that writes {' or '.join(map(str, marks))} for a picture",
                    got=f"{self.name}, whose prompt contains none for {len(pictures)} pictures",
                    fix="copy chat template, tokenizer and processor of the original model into the folder again",
                )

    def completion(
        self,
        ids: Sequence[int],
        logprobs: Sequence[float],
        num_prompt_tokens: int,
        num_cached_tokens: int = 0,
    ) -> Completion:
        """Return the turn for generated ids, up to the first end token. Further ids are padding."""
        end = next((i for i, token in enumerate(ids) if token in self.end_tokens), None)
        kept = len(ids) if end is None else end + 1
        return Completion(
            text=self.decode(list(ids if end is None else ids[:end])),
            truncated=end is None,
            token_ids=array("i", ids[:kept]),
            logprobs=array("f", logprobs[:kept]),
            num_prompt_tokens=num_prompt_tokens,
            num_cached_tokens=num_cached_tokens,
        )

    @property
    def end_tokens(self) -> frozenset[int]:
        """Token ids that end a turn."""
        end = self.model.generation_config.eos_token_id
        return frozenset([end] if isinstance(end, int) else end or [self.tokenizer.eos_token_id])

    def num_image_tokens(self, size: tuple[int, int]) -> int:
        """Return the number of visual tokens of a picture of this (width, height), without its pixels.

        If the processor does not count them, a token is a square of `budgets.multiple` pixels.
        """
        processor = self.processor
        if self.inputs.has_patch_grid:
            return num_grid_tokens(processor.image_processor, size)
        count = getattr(processor, "_get_num_multimodal_tokens", None)
        found = count(image_sizes=[(size[1], size[0])]) if count is not None else None
        if found and found.get("num_image_tokens"):
            return int(found["num_image_tokens"][0])
        budgets = self.budgets or get_dialect(self.dialect).budgets
        return size[0] * size[1] // budgets.multiple**2

    def context_limit(self, sampling: SamplingParams) -> int:
        """Return the maximum number of tokens of a conversation, including its next turn."""
        config = self.model.config.get_text_config()
        return int(min(sampling.max_context_tokens, config.max_position_embeddings))
