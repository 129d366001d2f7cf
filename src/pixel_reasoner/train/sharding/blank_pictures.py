"""Blank pictures for batches without pictures, so that every forward pass calls the vision tower.

With FSDP2 and ZeRO-3 a forward pass gathers weights module by module in all processes. A process whose batch holds no picture
would skip the vision tower, and all processes would wait forever. A blank picture is appended after the tokens of a row. The
attention mask and the loss exclude its tokens, so losses and gradients are those without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

NEEDS_BLANK = ("fsdp2", "zero3")
"""kinds of sharding that gather the weights of the vision tower in its forward pass"""


class BlankPicture:
    """Blank picture as a processor encodes it.

    Args:
        processor: processor of the model.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    @cached_property
    def inputs(self) -> dict[str, torch.Tensor]:
        """Return token ids, other per-token inputs and pixels of a user message with the picture alone."""
        from PIL import Image

        side = 4 * getattr(self.processor.image_processor, "patch_size", 16)
        content = [{"type": "image", "image": Image.new("RGB", (side, side))}]
        return dict(
            self.processor.apply_chat_template(
                [[{"role": "user", "content": content}]],
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        )

    @property
    def ids(self) -> torch.Tensor:
        """Token ids."""
        return self.inputs["input_ids"][0]

    @property
    def pixels(self) -> dict[str, torch.Tensor]:
        """Inputs that are not per token."""
        return {
            name: value
            for name, value in self.inputs.items()
            if not self._is_per_token(name, value) and name != "attention_mask"
        }

    def per_token(self, name: str) -> torch.Tensor | None:
        """Return a per-token input other than ids and mask, or None."""
        value = self.inputs.get(name)
        return value[0] if value is not None and self._is_per_token(name, value) else None

    def _is_per_token(self, name: str, value: torch.Tensor) -> bool:
        return name in ("input_ids", "attention_mask") or value.shape == (1, len(self.ids))

    def append(
        self, batch: Mapping[str, torch.Tensor], fills: Mapping[str, int], names: Sequence[str]
    ) -> dict[str, Any]:
        """Return a batch with the picture after the tokens of its last row, and padding after those of the others.

        Args:
            batch: (rows, tokens) tensors, and others that are not changed.
            fills: value of the padding, for tensors where it is not 0.
            names: per-token tensors to extend. The first contains the ids.
        """
        count = len(self.ids)
        longer = dict(batch)
        for name in names:
            rows = batch[name]
            tail = torch.full((len(rows), count), fills.get(name, 0), dtype=rows.dtype)
            if name == names[0]:
                tail[-1] = self.ids.to(rows.dtype)
            elif (values := self.per_token(name)) is not None:
                tail[-1] = values.to(rows.dtype)
            longer[name] = torch.cat([rows, tail], dim=1)
        return longer | self.pixels
