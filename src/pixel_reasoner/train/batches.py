"""Batches of token sequences as input tensors of TRL's loss. Pixels are computed from the media references of traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl.trainer.utils import pad

from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.processor_inputs import ProcessorInputs
from pixel_reasoner.schema.settings import MediaLimits, PixelBudgets
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.train.picture_inputs import PICTURE_NAMES
from pixel_reasoner.train.samples import CALL_ADVANTAGES, RolloutSample, TokenSequence
from pixel_reasoner.train.sharding.blank_pictures import BlankPicture


class BatchBuilder:
    """Builder of batches on the CPU. Not thread-safe: use one thread at a time.

    Args:
        processor: processor of the model.
        budgets: pixel budgets of the model.
        limits: media limits.
        max_open_media: maximum number of open media items.
        add_blank: whether a batch without pictures gets a blank one.
    """

    def __init__(
        self,
        processor: Any,
        budgets: PixelBudgets,
        limits: MediaLimits,
        max_open_media: int = 32,
        *,
        add_blank: bool = False,
    ) -> None:
        self.processor, self.inputs = processor, ProcessorInputs(processor)
        self.budgets, self.limits = budgets, limits
        self.contexts = MediaCache(max_open_media)
        self.blank = BlankPicture(processor) if add_blank else None

    def loss_batch(self, samples: Sequence[RolloutSample]) -> dict[str, Any]:
        """Return the tensors of a micro-batch, one row per sequence: the keys of `sequences_batch`, plus the advantages.

        Advantages are (rows,), or (rows, tokens) if single calls have their own.
        """
        rows = [(one, sample) for sample in samples for one in sample.sequences]
        batch = self.sequences_batch([one for one, _ in rows], [sample.trace for _, sample in rows])
        advantages = torch.tensor([sample.advantage for _, sample in rows])
        if CALL_ADVANTAGES in batch:
            advantages = advantages[:, None] + batch.pop(CALL_ADVANTAGES)
        batch["advantages"] = advantages
        return batch

    def sequences_batch(
        self, sequences: Sequence[TokenSequence], traces: Sequence[Trace]
    ) -> dict[str, Any]:
        """Return the tensors of sequences, with prompts padded on the left and completions on the right.

        Returns:
            (rows, tokens) ids, masks and per-token values; pixels of all pictures in order; `picture_names`.
        """
        fill = self.processor.tokenizer.pad_token_id
        prompts = [one.prompt_ids.long() for one in sequences]
        completions = [one.completion_ids.long() for one in sequences]
        batch: dict[str, Any] = {
            "prompt_ids": pad(prompts, padding_value=fill, padding_side="left"),
            "prompt_mask": pad(
                [torch.ones_like(p) for p in prompts], padding_value=0, padding_side="left"
            ),
            "completion_ids": pad(completions, padding_value=fill, padding_side="right"),
            "completion_mask": pad([torch.ones_like(c) for c in completions], padding_value=0),
            "tool_mask": pad([one.loss_mask.long() for one in sequences], padding_value=0),
            **{
                name: pad([one.per_token[name] for one in sequences])
                for name in sequences[0].per_token
            },
        }
        return batch | self._image_inputs(batch, sequences, traces)

    def _image_inputs(
        self, batch: dict[str, Any], sequences: Sequence[TokenSequence], traces: Sequence[Trace]
    ) -> dict[str, Any]:
        pictures = [
            self._pictures(one, trace) for one, trace in zip(sequences, traces, strict=True)
        ]
        if not any(pictures):
            return self._blank_inputs(batch)
        return _named(self.inputs.picture_tensors(pictures) | self._per_token_inputs(batch))

    def _per_token_inputs(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return (rows, tokens) inputs that mark visual tokens; none for families without."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        found = self.inputs.per_token_inputs(ids)
        return {name: torch.tensor(rows) for name, rows in found.items()}

    def _blank_inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch without pictures with a blank one after the last completion; nothing if none is needed."""
        if self.blank is None:
            return _named(self._per_token_inputs(batch))
        rows, length = batch["completion_ids"].shape
        names = [
            name
            for name, value in batch.items()
            if not name.startswith("prompt_") and value.shape == (rows, length)
        ]
        fill = self.processor.tokenizer.pad_token_id
        names = ["completion_ids", *(name for name in names if name != "completion_ids")]
        longer = self.blank.append(batch, {"completion_ids": fill}, names)
        inputs = _named(self.blank.pixels | self._per_token_inputs(longer))
        return longer | inputs

    def _pictures(self, sequence: TokenSequence, trace: Trace) -> list[Any]:
        context = self.contexts.open(trace.question, self.budgets, self.limits).replay(trace)
        return [context.view(number) for number in range(1, sequence.num_pictures + 1)]


def _named(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return picture inputs of a batch with their names, so that the trainer passes them to the model."""
    return {**inputs, PICTURE_NAMES: tuple(inputs)}


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch with its tensors on a device."""
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
