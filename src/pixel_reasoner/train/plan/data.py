"""Sequences that a run will train: lengths, pictures and scored tokens, from a sample of its data. Loads no weights."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.sources.pixelworld import world_questions
from pixel_reasoner.sources.question_files import read_questions
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.monitor.flops import picture_tokens
from pixel_reasoner.train.plan.calibrate import Row
from pixel_reasoner.train.plan.gpu import RESULT_TEXT_TOKENS

NUM_SAMPLES = 48
"""traces or questions of the sample"""


class SftData(NamedTuple):
    """Traces of a run."""

    num_traces: int
    rows: Sequence[Row]
    """a sample"""

    def micro_batches(self, size: int, count: int = 200) -> list[list[Row]]:
        """Return micro-batches drawn from the sample, padded to their longest sequence."""
        rng = random.Random(0)
        drawn = [rng.choices(self.rows, k=size) for _ in range(count)]
        return [
            [row._replace(tokens=max(r.tokens for r in rows)) for row in rows] for rows in drawn
        ]


def sft_data(run: SftRun, processor: Any, placeholders: Sequence[int]) -> SftData:
    """Return the number of traces of a run, and a sample of their sequences."""
    import torch

    from pixel_reasoner.train.sft import TraceCollator, read_trace, trace_dataset

    traces, _ = trace_dataset(run.traces)
    collator = TraceCollator(processor, mask=run.mask)
    step = max(1, len(traces) // NUM_SAMPLES)
    rows = []
    for number in range(0, len(traces), step):
        place = traces[number]
        row = collator.prepare_trace(read_trace(place["path"], place["offset"]))
        ids = row["input_ids"]
        scored = sum(row["trained"]) if run.mask else len(ids)
        rows.append(Row(len(ids), tuple(picture_tokens(torch.tensor(ids), placeholders)), scored))
    return SftData(len(traces), rows)


class RlData(NamedTuple):
    """Questions of a run, and what its rollouts are expected to contain."""

    num_questions: int
    prompt: Row
    """mean prompt"""
    turns: float
    turn_tokens: int
    result_tokens: int
    """visual tokens of the picture that an operation returns"""

    @property
    def new_tokens(self) -> int:
        """Tokens of a rollout after its prompt."""
        results = (self.turns - 1) * (self.result_tokens + RESULT_TEXT_TOKENS)
        return math.ceil(self.turns * self.turn_tokens + results)

    @property
    def row(self) -> Row:
        """Mean rollout as a sequence."""
        results = [self.result_tokens] * round(self.turns - 1)
        return Row(
            self.prompt.tokens + self.new_tokens,
            (*self.prompt.pictures, *results),
            self.new_tokens,
        )


def rl_data(
    run: RlRun, processor: Any, settings: FolderSettings, turns: float, turn_tokens: int
) -> RlData:
    """Return the number of questions of a run, and the mean of the prompts of a sample."""
    from pixel_reasoner.dialects import get_dialect
    from pixel_reasoner.train.rl import rollout_config
    from pixel_reasoner.train.rollouts.generator import RolloutGenerator, TokenLimits
    from pixel_reasoner.train.samples import PromptEncoder

    budgets = settings.budgets or get_dialect(settings.dialect).budgets
    end = [processor.tokenizer.eos_token_id]
    generator = RolloutGenerator(
        None,  # type: ignore[arg-type]  # generates nothing
        PromptEncoder(processor, end, {}),
        settings,
        rollout_config(run),
        MediaCache(max_entries=4),
        TokenLimits(10**6, 10**6),
    )
    unit = budgets.multiple**2
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        count, questions = _questions(run, Path(folder), budgets)
        for question in questions:
            (one,) = generator.begin([question])
            assert one.prompt is not None
            sizes = [picture.width * picture.height // unit for picture in one.prompt.pictures]
            rows.append((len(one.prompt.ids), sizes))
    tokens = round(fmean(length for length, _ in rows))
    num_pictures = max(1, round(fmean(len(pictures) for _, pictures in rows)))
    visual = fmean(sum(pictures) for _, pictures in rows)
    pictures = (max(1, round(visual / num_pictures)),) * num_pictures
    return RlData(count, Row(tokens, pictures, 0), turns, turn_tokens, budgets.crop.max_px // unit)


def _questions(run: RlRun, folder: Path, budgets: PixelBudgets) -> tuple[int, list[Question]]:
    """Return the number of questions of a run, and a sample."""
    sample: list[Question] = []
    count = 0
    for source in run.questions:
        rows = [one for one in read_questions(Path(source), folder) if isinstance(one, Question)]
        count += len(rows)
        sample += rows[:: max(1, len(rows) // NUM_SAMPLES)][:NUM_SAMPLES]
    if run.pixelworld is not None:
        mix = run.pixelworld
        count += mix.count * len(mix.families)
        small = type(mix)(**{**_fields(mix), "count": min(mix.count, 12)})
        sample += islice(world_questions(small, folder, budgets), NUM_SAMPLES)
    return count, sample


def _fields(record: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {one.name: getattr(record, one.name) for one in fields(record)}
