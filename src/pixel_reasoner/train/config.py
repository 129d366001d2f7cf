"""One training run as one TOML file: our knobs at the top, TRL's own under `[trl]`.

    traces = ["../synth"]            # folders with traces.jsonl, or files; relative to the TOML file
    model = "tiny"                   # an embedded model, a folder or a hub id
    out = "../sft"

    [trl]                            # whatever `trl.SFTConfig` takes
    learning_rate = 1e-5

A key that does not exist is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.models import EMBEDDED

_OURS = {"output_dir": "out", "remove_unused_columns": "", "assistant_only_loss": "", "packing": ""}
"""options of TRL that a run decides itself, and our name for them"""


@dataclass(frozen=True, kw_only=True)
class SftRun:
    """Warm-start tuning (phase 1). Paths are absolute once the file is read."""

    traces: tuple[str, ...]
    """folders with a traces.jsonl, or such files"""
    out: str
    """checkpoints, curves, samples and the final model"""
    model: str = "tiny"
    """an embedded model, a folder or a hub id"""
    eval_traces: tuple[str, ...] = ()
    """traces whose loss is measured while training, by TRL's `eval_strategy`"""
    train_vision: bool = False
    """whether the vision tower is trained, its merger included; the paper's released code freezes it"""
    mask: bool = True
    """false: every token counts, also what operations returned; for comparisons"""
    train_thoughts_before_mistakes: bool = True
    """whether the words before a deliberate mistake are trained, as in the paper; its call never is"""
    prepare: bool = True
    """cut, scale and tokenize all traces before the first step and keep them in `out/prepared`; false: in every epoch anew"""
    lora_rank: int = 0
    """0 trains all weights"""
    lora_alpha: int = 0
    """0: twice the rank"""
    ask_every: int = 0
    """steps between two rounds of questions that the model is really asked; 0: only at the end"""
    ask_count: int = 0
    """PixelWorld validation questions of each family that a round asks; 0: none"""
    ask_families: tuple[str, ...] = ("attribute", "video")
    trl: dict[str, Any] = field(default_factory=dict)
    """passed on to `trl.SFTConfig`"""

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is loaded."""
        for name in ("lora_rank", "lora_alpha", "ask_every", "ask_count"):
            if getattr(self, name) < 0:
                raise _wrong(f"{name} of 0 or more", str(getattr(self, name)), "raise it")
        if self.lora_alpha and not self.lora_rank:
            raise _wrong(
                "lora_rank with lora_alpha", "lora_alpha alone", "set lora_rank, such as 16"
            )
        if self.lora_rank and self.train_vision:
            raise _wrong(
                "lora_rank with a frozen vision tower",
                "lora_rank and train_vision",
                "set train_vision = false, or train all weights with lora_rank = 0",
            )
        if self.ask_every and not self.ask_count:
            raise _wrong("ask_count with ask_every", "none", "set ask_count, such as 50")
        if self.trl.get("eval_strategy", "no") != "no" and not self.eval_traces:
            raise _wrong(
                "eval_traces with eval_strategy", "none", "name some, or drop eval_strategy"
            )
        for name, ours in _OURS.items():
            if name in self.trl:
                fix = f"set {ours} at the top instead" if ours else "drop it"
                raise _wrong("options that a run leaves to TRL", f"{name} under [trl]", fix)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A run from its file.

        Raises:
            InputError: it cannot be read or is no TOML.
            UsageError: a key that does not exist, a value of the wrong type, a combination that cannot work.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(
                expected="a run as a TOML file",
                got=f"{path}: {reason(error)}",
                fix="see docs/train.md",
            ) from error
        known = {one.name: one for one in fields(cls)}
        refuse_unknown(table, known, str(path))
        values = {name: _typed(name, value, str(known[name].type)) for name, value in table.items()}
        if missing := [name for name in ("traces", "out") if name not in values]:
            raise _wrong(f"{missing[0]} in {path}", "none", f"add {missing[0]} = ...")
        folder = path.absolute().parent
        for name in ("traces", "eval_traces"):
            values[name] = tuple(str(folder / one) for one in values.get(name, ()))
        values["out"] = str(folder / values["out"])
        model = values.get("model", "tiny")
        if model not in EMBEDDED and (folder / model).is_dir():
            values["model"] = str(folder / model)
        return cls(**values)


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse a key that does not exist, and name the nearest.

    >>> refuse_unknown(["lerning_rate"], ["learning_rate", "lr_scheduler_type"], "[trl]")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected keys of [trl]; got lerning_rate. Fix: did you mean learning_rate?
    """
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            fix = f"did you mean {near[0]}?" if near else f"use some of {', '.join(sorted(names))}"
            raise _wrong(f"keys of {where}", name, fix)


def _typed(name: str, value: Any, kind: str) -> Any:
    """A TOML value as a field's type; a single text will do for a list of texts."""
    if kind.startswith("tuple"):
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise _wrong(f"{name} as a list of texts", repr(value), f'write {name} = ["..."]')
    plain = {"str": str, "bool": bool, "int": int}.get(kind, dict)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise _wrong(f"{name} as {plain.__name__}", repr(value), "correct its value")
    return value


def _wrong(expected: str, got: str, fix: str) -> UsageError:
    return UsageError(expected=expected, got=got, fix=fix)
