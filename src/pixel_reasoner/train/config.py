"""Configuration of a training run: a TOML file with this project's settings at the top and TRL's options under `[trl]`.

    traces = ["../synth"]            # folders with traces.jsonl, or files; relative to the TOML file
    model = "tiny"                   # a bundled model, a folder or a hub id
    out = "../sft"

    [trl]                            # options of `trl.SFTConfig`
    learning_rate = 1e-5

An unknown key is an error that suggests the nearest one.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pixel_reasoner.deprecated import new_keys
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.operations.registry import OperationSet
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.scoring.rewards import DeltaBaseline, RewardConfig
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.trl_limits import check_options
from pixel_reasoner.train.vllm.options import VllmOptions, check_vllm
from pixel_reasoner.world import FAMILIES

_SFT_MANAGED = {
    "output_dir": "out",
    "remove_unused_columns": "",
    "assistant_only_loss": "",
    "packing": "",
}
"""TRL options that a run sets itself -> our setting"""
_RL_MANAGED = {
    "output_dir": "out",
    "num_generations": "group_size",
    "steps_per_generation": "questions_per_sync and minibatch",
    "generation_batch_size": "questions_per_sync and group_size",
    "gradient_accumulation_steps": "minibatch",
    "max_tool_calling_iterations": "max_turns",
    "mask_truncated_completions": "mask_truncated",
    "remove_unused_columns": "",
    "eval_strategy": "",
    "reward_weights": "",
}
_PLAIN = {
    **dict.fromkeys(("str", "Variant", "DeltaBaseline", "Update"), str),
    **{"bool": bool, "int": int, "float": float},
}
SHARDINGS = ("fsdp2", "zero2", "zero3")
_AT_LEAST = {
    "group_size": (2, ", since an advantage is a difference within a group"),
    "max_turns": (2, ", since the model answers in the turn after a call"),
    **dict.fromkeys(
        ("questions_per_sync", "minibatch", "rollouts_at_once", "max_new_tokens"), (1, "")
    ),
    **dict.fromkeys(
        (
            "max_staleness",
            "replay_exponent",
            "solved_weight",
            "unsolved_weight",
            "probes",
            "refill",
        ),
        (0, ""),
    ),
    **dict.fromkeys(("lora_rank", "lora_alpha", "ask_every", "ask_count", "sample_every"), (0, "")),
}


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Measurement of a run, under `[monitor]`. It changes no result, and may differ when a run is resumed."""

    peak_tflops: float = 0.0
    """peak of one device in TFLOP/s, for MFU; 0: of the data sheet of a known GPU, else measured with a matrix product"""
    stall_timeout_s: float = 1200.0
    """if no step finishes for so long, every process writes its stacks to `out/stalls`; 0: never"""

    def __post_init__(self) -> None:
        """Reject negative values."""
        for name in ("peak_tflops", "stall_timeout_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise _wrong(f"{name} of 0 or more", str(getattr(self, name)), "correct it")


@dataclass(frozen=True, kw_only=True)
class SftRun:
    """Warm-start tuning (phase 1). Paths are absolute."""

    traces: tuple[str, ...]
    """folders with a traces.jsonl, or such files"""
    out: str
    """folder of checkpoints, curves, samples and the final model"""
    model: str = "tiny"
    """bundled model, folder or hub id"""
    eval_traces: tuple[str, ...] = ()
    """traces for the evaluation loss during training, with TRL's `eval_strategy`"""
    train_vision: bool = False
    """whether vision tower and projector are trained; the upstream code freezes them"""
    mask: bool = True
    """false: the loss covers every token, including tool results; for comparisons"""
    train_thoughts_before_mistakes: bool = True
    """whether the loss covers the text before a deliberate mistake, as in the paper; the call itself is always masked"""
    batch_size: int = 0
    """traces of one gradient step, over all processes; 0: TRL's batch sizes per process decide"""
    prepare: bool = True
    """crop, resize and tokenize all traces before the first step, into `out/prepared`; false: in every epoch"""
    lora_rank: int = 0
    """0: train all weights"""
    lora_alpha: int = 0
    """0: twice the rank"""
    sharding: str = ""
    """shards over the processes: fsdp2 or zero3 weights, gradients and optimizer states; zero2 all but weights; empty: nothing"""
    ask_every: int = 0
    """steps between two validations (the model answers questions); 0: only at the end"""
    ask_count: int = 0
    """number of PixelWorld validation questions per family; 0: none"""
    ask_families: tuple[str, ...] = FAMILIES
    """PixelWorld families of these questions"""
    operations: tuple[str, ...] = DEFAULT_OPERATIONS
    """names of the operations that the model may use: in the questions of a validation; traces have their own"""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    """measurement of the run, under `[monitor]`"""
    trl: dict[str, Any] = field(default_factory=dict)
    """options of `trl.SFTConfig`"""

    def __post_init__(self) -> None:
        """Reject invalid settings before anything is loaded."""
        for name in ("lora_rank", "lora_alpha", "ask_every", "ask_count", "batch_size"):
            if getattr(self, name) < 0:
                raise _wrong(f"{name} of 0 or more", str(getattr(self, name)), "raise it")
        _check_lora(self)
        _check_asking(self)
        _check_operations(self.operations)
        _check_sharding(self)
        if self.batch_size and "gradient_accumulation_steps" in self.trl:
            raise _wrong(
                "batch_size or gradient_accumulation_steps", "both", "remove the one under [trl]"
            )
        if self.trl.get("eval_strategy", "no") != "no" and not self.eval_traces:
            raise _wrong(
                "eval_traces with eval_strategy", "none", "name some, or drop eval_strategy"
            )
        _check_trl(self.trl, _SFT_MANAGED)
        check_options(self.trl, is_rl=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the run configured in a file.

        Raises:
            InputError: the file cannot be read or is not TOML.
            UsageError: an unknown key, a value of the wrong type, or an invalid combination.
        """
        values = _read(cls, path, ("traces", "out"), ("traces", "eval_traces"))
        return cls(**_with_tables(values, {"monitor": MonitorConfig}))


@dataclass(frozen=True, kw_only=True)
class RlRun:
    """Curiosity-driven RL (phase 2). Paths are absolute.

    Sizes, with the paper's values: one policy generates `group_size` rollouts (8) for each of `questions_per_sync`
    questions
    (512). A gradient step uses `minibatch` rollouts (256), so 16 steps follow before new rollouts are generated.
    """

    out: str
    """folder of checkpoints, curves, samples and the final model"""
    questions: tuple[str, ...] = ()
    """folders or files with questions.jsonl or own rows as JSONL, or folders with the upstream RL parquet"""
    pixelworld: WorldMix | None = None
    """generated PixelWorld questions, under `[pixelworld]`"""
    model: str = "tiny"
    """initial model: a bundled model, a folder or a hub id"""
    questions_per_sync: int = 512
    """number of questions per policy sync (episode)"""
    group_size: int = 8
    """rollouts per question, G"""
    minibatch: int = 256
    """rollouts per gradient step, over all processes"""
    rollouts_at_once: int = 64
    """rollouts per generation batch of a process; a multiple of the group size"""
    max_staleness: int = 0
    """asynchronous rollouts: maximum number of policy syncs between the start of a group and its use; 0: lockstep"""
    max_turns: int = 6
    """maximum number of model messages per rollout"""
    max_new_tokens: int = 256
    """maximum number of tokens per turn; the limit of a rollout is TRL's `max_completion_length`"""
    probes: int = 0
    """rollouts per question without operations, which measure whether it needs one: the choice is rewarded accordingly"""
    replay: bool = True
    """selective sample replay: rollouts without an advantage are replaced by others of the same episode"""
    refill: int = 0
    """further rounds of generation in a sync: other questions replace those whose rollouts have equal rewards"""
    replay_exponent: float = 1.0
    """a in P(rollout) ~ |advantage|^a; 0 draws uniformly"""
    mask_truncated: bool = True
    """whether the loss masks truncated rollouts"""
    mask_over_turns: bool = False
    """whether the loss masks rollouts that called an operation in their last turn"""
    solved_weight: float = 1.0
    """factor on the advantages of questions with only right rollouts; 0 masks them"""
    unsolved_weight: float = 1.0
    """factor on the advantages of questions without right rollouts"""
    reward: RewardConfig = field(default_factory=RewardConfig)
    """constants of the reward, under `[reward]`"""
    reward_functions: tuple[str, ...] = ()
    """additional reward functions of a trace: `package.module:function` or `file.py:function`"""
    train_vision: bool = False
    """whether vision tower and projector are trained"""
    lora_rank: int = 0
    """0: train all weights"""
    lora_alpha: int = 0
    """0: twice the rank"""
    sharding: str = ""
    """shards over the processes: fsdp2 or zero3 weights, gradients and optimizer states; zero2 all but weights; empty: nothing"""
    sample_every: int = 10
    """steps between two reports of sampled rollouts; 0: none"""
    ask_every: int = 0
    """steps between two validations; 0: only at the end"""
    ask_count: int = 0
    """number of PixelWorld validation questions per family; 0: none"""
    ask_families: tuple[str, ...] = FAMILIES
    """PixelWorld families of these questions"""
    operations: tuple[str, ...] = DEFAULT_OPERATIONS
    """names of the operations that the model may use: in rollouts and validations"""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    """measurement of the run, under `[monitor]`"""
    vllm: VllmOptions | None = None
    """vLLM servers that generate the rollouts, under `[vllm]`; default: the engine of this project"""
    trl: dict[str, Any] = field(default_factory=dict)
    """options of `trl.GRPOConfig`"""

    def __post_init__(self) -> None:
        """Reject invalid settings before anything is loaded."""
        if not self.questions and self.pixelworld is None:
            raise _wrong(
                "questions or [pixelworld]", "neither", 'add questions = ["..."], or a table'
            )
        for name, (least, why) in _AT_LEAST.items():
            value = getattr(self, name)
            if not least <= value < math.inf:
                raise _wrong(f"{name} of {least} or more{why}", str(value), "correct it")
        self._check_batch_sizes()
        _check_lora(self)
        _check_asking(self)
        _check_operations(self.operations)
        _check_sharding(self)
        _check_trl(self.trl, _RL_MANAGED)
        is_async = bool(self.max_staleness)
        check_vllm(self.vllm, self.trl, has_lora=bool(self.lora_rank), is_async=is_async)
        check_options(self.trl, is_rl=True)
        for name in ("probes", "refill"):
            if getattr(self, name) and self.max_staleness:
                raise _wrong(f"{name} without max_staleness", "both", "set one of them to 0")
        if self.probes and not self.operations:
            raise _wrong("operations with probes", "none", "name operations, or set probes to 0")
        _check_baseline(self)

    def _check_batch_sizes(self) -> None:
        rollouts = self.questions_per_sync * self.group_size
        if rollouts % self.minibatch:
            raise _wrong(
                f"a minibatch that divides the {rollouts} rollouts of a sync "
                f"({self.questions_per_sync} questions x {self.group_size})",
                str(self.minibatch),
                f"take {' or '.join(map(str, _divisors_near(rollouts, self.minibatch)))}",
            )
        if self.rollouts_at_once % self.group_size:
            raise _wrong(
                f"rollouts_at_once as a multiple of the group size {self.group_size}",
                str(self.rollouts_at_once),
                "raise or lower it: a group is generated in one batch",
            )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the run configured in a file.

        Raises:
            InputError: the file cannot be read or is not TOML.
            UsageError: an unknown key, a value of the wrong type, or an invalid combination.
        """
        values = _read(cls, path, ("out",), ("questions",))
        if "vllm" in values:
            values["vllm"] = _vllm_fields(values["vllm"], path)
        kinds = {"reward": RewardConfig, "pixelworld": WorldMix, "monitor": MonitorConfig}
        return cls(**_with_tables(values, {**kinds, "vllm": VllmOptions}))


def _vllm_fields(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the table `[vllm]` with an absolute folder."""
    weights = table.get("weights_dir")
    more = {"weights_dir": str(path.absolute().parent / weights)} if weights else {}
    return {"url": []} | table | more


def _read(
    kind: Any, path: Path, needed: tuple[str, ...], of_paths: tuple[str, ...]
) -> dict[str, Any]:
    """Return the fields of a run from its file, with absolute paths."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            expected="a run as a TOML file",
            got=f"{path}: {reason(error)}",
            fix=_fix_of_toml(text, error),
        ) from error
    values = _table(kind, table, str(path))
    if missing := [name for name in needed if name not in values]:
        raise _wrong(f"{missing[0]} in {path}", "none", f"add {missing[0]} = ...")
    folder = path.absolute().parent
    for name in of_paths:
        values[name] = tuple(str(folder / one) for one in values.get(name, ()))
    values["out"] = str(folder / values["out"])
    model = values.get("model", "tiny")
    if model not in BUNDLED_MODELS and (folder / model).is_dir():
        values["model"] = str(folder / model)
    return values


def _with_tables(values: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a run with its TOML tables as dataclasses."""
    tables = {
        name: kind(**_table(kind, values[name], f"[{name}]"))
        for name, kind in kinds.items()
        if name in values
    }
    return {**values, **tables}


def _fix_of_toml(text: str, error: Exception) -> str:
    """Return the correction of a TOML file: texts without quotes are the most frequent mistake.

    >>> _fix_of_toml("model = tiny", ValueError("Invalid value (at line 1, column 9)"))
    'texts need quotes: model = "tiny"'
    """
    number = re.search(r"at line (\d+)", str(error))
    lines = text.splitlines()
    if number and int(number[1]) <= len(lines):
        bare = re.match(
            r"\s*([\w.-]+)\s*=\s*([^\s\"'\[{#][^\"'#]*?)\s*(#|$)", lines[int(number[1]) - 1]
        )
        if bare:
            return f'texts need quotes: {bare[1]} = "{bare[2]}"'
    return "see docs/train.md"


def _table(kind: Any, table: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a TOML table as fields of a dataclass."""
    known = {one.name: one for one in fields(kind)}
    table = new_keys(kind.__name__, table)
    _reject_keys_of_other_run(kind, table, where)
    reject_unknown_keys(table, known, where)
    return {name: _typed(name, value, str(known[name].type)) for name, value in table.items()}


def _reject_keys_of_other_run(kind: Any, table: dict[str, Any], where: str) -> None:
    """Raise an error that names the other command, if a key belongs to its runs."""
    if kind not in (SftRun, RlRun):
        return
    other, command, this = (
        (RlRun, "train rl", "train sft") if kind is SftRun else (SftRun, "train sft", "train rl")
    )
    ours, theirs = ({one.name for one in fields(run)} for run in (kind, other))
    for name in table:
        if name in theirs - ours:
            raise _wrong(
                f"keys of `{this}` in {where}",
                f"{name}, which belongs to `{command}`",
                f"remove it, or give this file to `pixel-reasoner {command}`",
            )


def _check_lora(run: SftRun | RlRun) -> None:
    if run.lora_alpha and not run.lora_rank:
        raise _wrong(
            "lora_rank with lora_alpha", "lora_alpha alone", "set lora_rank, for example to 16"
        )
    if run.lora_rank and run.train_vision:
        raise _wrong(
            "lora_rank with a frozen vision tower",
            "lora_rank and train_vision",
            "set train_vision = false, or train all weights with lora_rank = 0",
        )


def _check_asking(run: SftRun | RlRun) -> None:
    if run.ask_every and not run.ask_count:
        raise _wrong("ask_count with ask_every", "none", "set ask_count, for example to 50")


def _check_baseline(run: RlRun) -> None:
    """Fail where the results of calls have no counterpart with other pixels."""
    baseline = run.reward.delta_baseline
    if baseline is DeltaBaseline.NONE:
        return
    more = sorted(set(run.operations) - set(DEFAULT_OPERATIONS))
    if more:
        names = " and ".join(DEFAULT_OPERATIONS)
        fix = "remove the other operations, or set delta_baseline to none"
        raise _wrong(f"only {names} with delta_baseline {baseline}", ", ".join(more), fix)
    world = 2 if run.pixelworld is None else run.pixelworld.world
    if baseline is DeltaBaseline.TWIN and world == 1:
        fix = "set world = 2 under [pixelworld], or delta_baseline to elsewhere"
        raise _wrong("PixelWorld 2 with delta_baseline twin", "world 1, which has no twins", fix)


def _check_operations(names: tuple[str, ...]) -> None:
    """Fail on an unknown operation, or on one whose packages are missing, before a model is loaded."""
    for spec in OperationSet.of(names):
        spec.check_available()


def _check_sharding(run: SftRun | RlRun) -> None:
    if run.sharding not in ("", *SHARDINGS):
        raise _wrong(f"sharding {', '.join(SHARDINGS)}", repr(run.sharding), "use one of these")
    for name, own in (("fsdp", "fsdp2"), ("fsdp_config", "fsdp2"), ("deepspeed", "zero")):
        if name in run.trl and (not run.sharding.startswith(own) or name == "fsdp"):
            fix = f'set sharding = "{own if own == "fsdp2" else "zero3"}" at the top'
            raise _wrong("sharding at the top", f"{name} under [trl]", fix)
    if not isinstance(run.trl.get("deepspeed", {}), dict):
        raise _wrong("a table deepspeed under [trl]", "a path", "write its options in the run")


def _check_trl(options: dict[str, Any], ours: dict[str, str]) -> None:
    for name, own in ours.items():
        if name in options:
            fix = f"set {own} at the top instead" if own else "remove it"
            raise _wrong("only options that a run does not set itself", f"{name} under [trl]", fix)


def _divisors_near(number: int, wanted: int) -> list[int]:
    """Return the divisors of a number that are nearest to a target.

    >>> _divisors_near(64, 20)
    [16, 32]
    """
    divisors = [n for n in range(1, number + 1) if number % n == 0]
    return [*[n for n in divisors if n < wanted][-1:], *[n for n in divisors if n > wanted][:1]]


def reject_unknown_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Reject unknown keys and suggest the nearest known key.

    >>> reject_unknown_keys(["lerning_rate"], ["learning_rate", "lr_scheduler_type"], "[trl]")
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
    """Return a TOML value converted to the type of a field. A single string becomes a list."""
    if kind.startswith("tuple"):
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise _wrong(f"{name} as a list of texts", repr(value), f'write {name} = ["..."]')
    plain = _PLAIN.get(kind, dict)
    if plain is float and type(value) is int:
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise _wrong(f"{name} as {plain.__name__}", repr(value), "correct its value")
    return value


def _wrong(expected: str, got: str, fix: str) -> UsageError:
    return UsageError(expected=expected, got=got, fix=fix)
