"""Record of a strategy: what its rollouts looked at, their answers and scores, its confidence and its cost."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from pixel_reasoner.schema.geometry import WHOLE, RecordedBox, RecordedSize
from pixel_reasoner.schema.record import Record


class Usage(Record):
    """Cost of the rollouts of an answer. A prompt counts once per rollout, as with a prefix cache."""

    num_rollouts: PositiveInt = 1
    prompt_tokens: NonNegativeInt = 0
    """tokens of the prompts and results of operations, visual tokens included; generated tokens are not part of it"""
    new_tokens: NonNegativeInt = 0
    """generated tokens"""
    visual_tokens: NonNegativeInt = 0
    """tokens of the pictures, estimated from their sizes in the prompt"""
    generate_s: FiniteFloat = 0.0
    """time of generation and operations, summed over the rollouts"""

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of two costs."""
        names = type(self).model_fields
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in names})


class Region(Record):
    """Region that a rollout of a strategy looked at."""

    medium: NonNegativeInt = 0
    """index into `Question.media`, from 0"""
    frame: PositiveInt | None = None
    """number among the sampled frames, from 1"""
    box: RecordedBox = WHOLE
    seen_px: RecordedSize
    """size in the prompt"""


class CandidateKind(StrEnum):
    """Purpose of a rollout of a strategy."""

    ANSWER = "answer"
    """answers the question; one of these is selected"""
    PROBE = "probe"
    """asks whether a region shows what the question is about"""


class Candidate(Record):
    """One rollout of a strategy."""

    kind: CandidateKind = CandidateKind.ANSWER
    text: str = ""
    """question of a probe"""
    regions: tuple[Region, ...] = ()
    """regions that the strategy showed, and those that the model looked at"""
    answer: str | None = None
    score: FiniteFloat | None = None
    """between 0 and 1: probability of the answer, or of "yes" for a probe"""
    votes: NonNegativeInt = 0
    """candidates with an equivalent answer, itself included; 0 if the strategy does not vote"""
    parent: NonNegativeInt | None = None
    """index of the probe whose region was divided"""
    is_selected: bool = False


class StrategyRecord(Record):
    """How a strategy found an answer."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    """all options, defaults included"""
    candidates: tuple[Candidate, ...] = ()
    confidence: FiniteFloat | None = None
    """between 0 and 1: share of votes, or probability of the answer"""
    calibrated: FiniteFloat | None = None
    """estimated probability that the answer is right (`--calibration`)"""
    usage: Usage = Usage()
    """of all rollouts"""
