"""Log-probabilities of rollouts with pixels: TRL's hook passes no images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.train import distributed
from pixel_reasoner.train.batches import BatchBuilder, to_device
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.picture_inputs import PictureInputsMixin
from pixel_reasoner.train.rollouts.generator import GeneratedRollout
from pixel_reasoner.train.samples import TokenSequence, completion_spans, token_sequences
from pixel_reasoner.train.sharding.blank_pictures import NEEDS_BLANK


class RolloutLogprobsMixin(PictureInputsMixin):
    """Methods of a `GRPOTrainer` that compute log-probabilities of token sequences with their pictures."""

    run: RlRun
    batches: BatchBuilder
    accelerator: Any

    def logprobs_of_rollouts(
        self, model: Any, rollouts: Sequence[GeneratedRollout], batch_size: int
    ) -> torch.Tensor:
        """Return (rollouts, completion of their rows) log-probabilities; 0 between sequences."""
        rows = [torch.zeros(len(one.row.completion_ids)) for one in rollouts]
        places = [
            (row, span, token_sequences([draft], {})[0], one.trace)
            for row, one in zip(rows, rollouts, strict=True)
            for span, draft in zip(completion_spans(one.sequences), one.sequences, strict=True)
        ]
        if self.run.sharding in NEEDS_BLANK:
            places += distributed.filling_passes(places, batch_size, self)
        for start in range(0, len(places), batch_size):
            some = places[start : start + batch_size]
            found = self.logprobs_of_sequences(model, [p[2] for p in some], [p[3] for p in some])
            for values, (row, span, sequence, _) in zip(found, some, strict=True):
                row[span] = values[: len(sequence.completion_ids)]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def logprobs_of_sequences(
        self, model: Any, sequences: Sequence[TokenSequence], traces: Sequence[Trace]
    ) -> torch.Tensor:
        """Return (sequences, longest completion) log-probabilities of the completions, on the CPU."""
        batch = self.batches.sequences_batch(sequences, traces)
        return self.logprobs_of_batch(model, to_device(batch, self.accelerator.device)).cpu()

    def logprobs_of_batch(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """Return (sequences, longest completion) log-probabilities of a batch on the model's device."""
        prompt_ids, completion_ids = batch.pop("prompt_ids"), batch.pop("completion_ids")
        masks = [batch.pop("prompt_mask"), batch.pop("completion_mask")]
        with self._pictures_of(batch):
            logprobs, _, _ = super()._get_per_token_logps_and_entropies(
                model,
                torch.cat([prompt_ids, completion_ids], dim=1),
                torch.cat(masks, dim=1),
                completion_ids.size(1),
            )
        found: torch.Tensor = logprobs
        return found
