"""Settings of the training of the bundled model. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixel_reasoner.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """What the bundled model is trained on, for how long, and where its files go.

    Raises:
        UsageError: both `tower` and `start`.
    """

    traces: Path = Path("runs/tiny/synth")
    """folder of `pixel-reasoner synth pixelworld`, written for the bundled model"""
    out: Path = Path("runs/tiny")
    """for the scene cache (14 GB), checkpoints, logs (`STAGE.jsonl`) and the model"""
    tower: str = ""
    """`tiny` or a model folder whose vision tower and tokenizer are reused: only the language model is trained"""
    start: str = ""
    """instead of `tower`: training continues from the language model of this one, too"""
    words: float = 0.0
    """share of training examples that answer without an operation although operations are offered; questions that need
    one are guessed. The behaviour of a model that has never used operations; for experiments"""
    steps: int = 4000
    """of the last stage, the language model's"""
    seed: int = 0
    """of weights and batches"""
    scale: float = 1.0
    """share of scenes and steps, to try the whole pipeline quickly"""
    batch_share: float = 1.0
    """share of the examples of each step and measurement, likewise"""
    install: bool = False
    """whether the result replaces the bundled model of this installation"""

    def __post_init__(self) -> None:
        if self.tower and self.start:
            raise UsageError(
                expected="--tower or --from",
                got=f"--tower {self.tower} and --from {self.start}",
                fix="keep --from to go on from its language model, --tower to begin that anew",
            )
