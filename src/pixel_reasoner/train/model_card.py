"""README of a trained model: base model, data, method and versions."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from pixel_reasoner import __version__
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.models.hub import is_hub_id
from pixel_reasoner.train.config import RlRun, SftRun

_PACKAGES = ("torch", "transformers", "trl", "peft")
_USE = 'pixel-reasoner ask "What does the sign say?" --image a.jpg --model FOLDER'


def model_card(run: SftRun | RlRun) -> str:
    """Return the text of the card.

    >>> card = model_card(SftRun(traces=("a",), out="b", model="Qwen/Qwen2.5-VL-7B-Instruct"))
    >>> card.splitlines()[1]
    'base_model: Qwen/Qwen2.5-VL-7B-Instruct'
    """
    is_rl = isinstance(run, RlRun)
    method = "curiosity-driven RL" if is_rl else "warm-start tuning on expert traces"
    trained = f"a LoRA of rank {run.lora_rank}, merged" if run.lora_rank else "all weights"
    vision = "trained" if run.train_vision else "frozen"
    head = (
        [f"base_model: {run.model}"]
        if is_hub_id(run.model) and not Path(run.model).is_dir()
        else []
    )
    versions = [f"{name} {metadata.version(name)}" for name in _PACKAGES]
    lines = [
        *(
            "---",
            *head,
            "pipeline_tag: image-text-to-text",
            "tags: [pixel-reasoner, trl]",
            "---",
            "",
        ),
        f"# {Path(run.out).name}",
        "",
        f"`{Path(run.model).name if Path(run.model).is_dir() else run.model}` after {method} with Pixel Reasoner"
        " (arXiv 2505.15966): it calls visual operations while it reasons.",
        "",
        f"Trained: {trained}; vision tower {vision}. All settings are in `run.json` of the run.",
        "",
        *("```", _USE, "```", ""),
        f"Versions: pixel-reasoner {__version__}, {', '.join(versions)}.",
    ]
    return "\n".join(lines) + "\n"


class ModelCardMixin:
    """Mixin for trainers with a `run`: TRL's card names the base model by its folder, or as `None`."""

    run: Any
    args: Any

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write `README.md` into the folder of the run. TRL calls this with every checkpoint."""
        if self.is_world_process_zero():  # type: ignore[attr-defined]
            write_model_card(self.run, Path(self.args.output_dir))


def write_model_card(run: SftRun | RlRun, folder: Path) -> None:
    """Write the model card into a folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    with atomic_writer(folder / "README.md") as file:
        file.write(model_card(run))
