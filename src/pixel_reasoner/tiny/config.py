"""Training settings of the bundled model. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixel_reasoner.errors import UsageError

SIZES = ("s", "m", "l")
"""names of `build.SHAPES`"""


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """Data, length and output folder of the training of the bundled model.

    Raises:
        UsageError: both `tower` and `start`.
    """

    traces: Path | tuple[Path, ...] = Path("runs/tiny/synth")
    """folders of `pixel-reasoner synth pixelworld`, written for the bundled model; for example one of each world"""
    out: Path = Path("runs/tiny")
    """folder of the scene caches (17 GB), checkpoints, logs (`STAGE.jsonl`) and the model"""
    tower: str = ""
    """`tiny` or a model folder; its vision tower and tokenizer are reused, and only the language model is trained"""
    start: str = ""
    """alternative to `tower`: training also continues from this model's language model"""
    words: float = 0.0
    """share of training examples that answer without an operation although operations are available; questions that need
    one get a guess. It imitates a model that has never used operations; for experiments"""
    size: str = "s"
    """s, m or l: 5.7 (the bundled model), 17 or 55 million parameters; with `tower` or `start`, the size of this model"""
    call_weight: float = 1.0
    """weight of the tokens of calls in the loss of the language model, next to all other tokens"""
    steps: int = 4000
    """number of steps of the last stage (language model)"""
    seed: int = 0
    """random seed of weights and batches"""
    scale: float = 1.0
    """share of scenes and steps, to test the whole pipeline quickly"""
    batch_share: float = 1.0
    """share of the examples per step and measurement, to test the whole pipeline quickly"""
    install: bool = False
    """whether the result replaces the installed bundled model"""

    @property
    def trace_folders(self) -> tuple[Path, ...]:
        """The folders of traces."""
        return (self.traces,) if isinstance(self.traces, Path) else tuple(self.traces)

    def __post_init__(self) -> None:
        if not self.trace_folders:
            raise UsageError(
                expected="a folder of traces or more", got="none", fix="add --traces FOLDER"
            )
        if self.size not in SIZES:
            raise UsageError(
                expected=f"--size {', '.join(SIZES)}", got=repr(self.size), fix="name one of these"
            )
        if self.tower and self.start:
            raise UsageError(
                expected="--tower or --from",
                got=f"--tower {self.tower} and --from {self.start}",
                fix="keep --from to continue from its language model, or --tower to train a new language model",
            )
