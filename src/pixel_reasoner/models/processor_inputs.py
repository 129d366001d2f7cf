"""Inputs of a model from its processor, for every family: token ids, pictures, and per-token inputs.

Families differ in what a picture becomes: one token per patch area, tiles with marks between them, a fixed number of tokens. Only the
processor knows, so it is called with text and pictures together. It gets the pictures as one list per prompt: some families encode a
picture differently if there are several in a prompt, and others need the list to know which pictures belong to which prompt.

This module does not import torch: tensors come from the processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from PIL import Image

PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
"""names of the input that marks visual tokens with 1"""
EXPERT_TYPES = "moe_mm_token_type_ids"
"""name of the input of ERNIE that selects the experts of a token"""


class ProcessorInputs:
    """Builder of inputs with one processor.

    Args:
        processor: of transformers, with a chat template.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def batch(self, texts: Sequence[str], pictures: Sequence[Sequence[Any]], **options: Any) -> Any:
        """Return the inputs of prompts.

        Args:
            texts: rendered prompts, with one placeholder per picture.
            pictures: pictures of each prompt.
            options: of the processor, such as `padding`.

        Returns:
            (prompts, tokens) `input_ids`, `attention_mask` and per-token inputs, and the tensors of all pictures.
        """
        nested = [list(some) for some in pictures]
        # The template writes the marks of the beginning.
        return self.processor(
            text=list(texts),
            images=nested if any(nested) else None,
            add_special_tokens=False,
            **options,
        )

    def token_ids(self, text: str, pictures: Sequence[Any]) -> list[int]:
        """Return the token ids of a prompt, with all tokens of its pictures."""
        inputs = self.batch([text], [pictures], return_tensors="pt")  # Ovis 2 requires tensors
        ids: list[int] = inputs["input_ids"][0].tolist()
        return ids

    def picture_tensors(self, pictures: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the tensors of the pictures of several prompts: all inputs that are not per token.

        They do not depend on the text of the prompts.
        """
        if self.has_patch_grid:  # much faster, and equal
            flat = [picture for some in pictures for picture in some]
            return dict(self.processor.image_processor(images=flat, return_tensors="pt"))
        texts = [self._placeholders(len(some)) for some in pictures]
        inputs = self.batch(texts, pictures, padding=True, return_tensors="pt")
        shape = inputs["input_ids"].shape
        return {
            name: _as_float32(value)
            for name, value in inputs.items()
            if getattr(value, "shape", None) != shape
        }

    def per_token_inputs(self, ids: Any) -> dict[str, list[list[int]]]:
        """Return the per-token inputs of token ids, other than ids and mask; empty for families without.

        Args:
            ids: rows of token ids, as a tensor or as lists.
        """
        rows = ids.tolist() if hasattr(ids, "tolist") else [list(row) for row in ids]
        return {name: self._per_token(name, rows) for name in self._per_token_names}

    def count_tokens(self, picture: Any) -> int:
        """Return the number of tokens that one picture adds to a prompt, with the marks around it."""
        content = [{"type": "text", "text": "a"}]
        texts = [self._render(content), self._render([{"type": "image"}, *content])]
        without, with_picture = (
            len(self.token_ids(text, some))
            for text, some in zip(texts, ([], [picture]), strict=True)
        )
        return with_picture - without

    @cached_property
    def visual_ids(self) -> frozenset[int]:
        """Ids of the tokens of a picture, with marks of the family between them."""
        found = [getattr(self.processor, "image_token_id", None)]
        found += list(getattr(self.processor, "image_token_ids", None) or ())
        return frozenset(one for one in found if one is not None)

    @cached_property
    def has_patch_grid(self) -> bool:
        """Whether every picture becomes one token for each merged patch, so that `num_grid_tokens` is its number of tokens."""
        image_processor = self.processor.image_processor
        if not is_grid(image_processor):
            return False
        side = 6 * image_processor.patch_size * image_processor.merge_size
        picture = Image.new("RGB", (side, side // 2))
        try:
            ids = self.token_ids(self._placeholders(2), [picture, picture])
            expected = 2 * num_grid_tokens(image_processor, picture.size)
        except (TypeError, ValueError):
            return False
        tensors = self.processor.image_processor(images=[picture], return_tensors="pt")
        return ids.count(self.processor.image_token_id) == expected and "image_grid_thw" in tensors

    @cached_property
    def _per_token_names(self) -> tuple[str, ...]:
        inputs = self.batch(["a"], [[]], return_tensors="pt")
        return tuple(name for name in (*PER_TOKEN, EXPERT_TYPES) if name in inputs)

    def _per_token(self, name: str, rows: list[list[int]]) -> list[list[int]]:
        if name == EXPERT_TYPES:
            found: list[list[int]] = self.processor.create_moe_mm_token_type_ids(rows)
        else:
            found = self.processor.create_mm_token_type_ids(rows)
        return found

    def _placeholders(self, count: int) -> str:
        """Return a text with placeholders of this many pictures, and the marks that the template puts around them."""
        content = [{"type": "image"}] * count
        return self._render([*content, {"type": "text", "text": "a"}])

    def _render(self, content: Sequence[Mapping[str, Any]]) -> str:
        message = {"role": "user", "content": content}
        text: str = self.processor.apply_chat_template([message], tokenize=False)
        return text


def _as_float32(value: Any) -> Any:
    """Return a tensor in 32 bits if it has 16: the processor of Llama 4 returns bfloat16, and trained weights have 32."""
    return value.float() if str(getattr(value, "dtype", "")) == "torch.bfloat16" else value


def is_grid(image_processor: Any) -> bool:
    """Return whether an image processor divides a picture into merged patches, so that its tokens follow from its size.

    >>> from types import SimpleNamespace
    >>> is_grid(SimpleNamespace(patch_size=14))
    False
    """
    return all(
        hasattr(image_processor, name)
        for name in ("patch_size", "merge_size", "get_number_of_image_patches")
    )


def num_grid_tokens(image_processor: Any, size: tuple[int, int]) -> int:
    """Return the number of tokens of a picture for an image processor with a grid of patches.

    Args:
        image_processor: for which `is_grid` is true.
        size: width and height of the picture.
    """
    width, height = size
    # Before transformers 5.18 the last argument is not optional.
    patches: int = image_processor.get_number_of_image_patches(height, width, {})
    return patches // int(image_processor.merge_size) ** 2
