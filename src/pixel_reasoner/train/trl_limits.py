"""Options under `[trl]` that TRL accepts but a run would ignore, or that would fail hours later. Does not import TRL."""

from __future__ import annotations

import math
from typing import Any

from pixel_reasoner.errors import UsageError

_COLLATED = "this project builds batches of whole traces"
_RESUMED = "a run always continues from its last checkpoint and reproduces the same numbers"
_OWN_LOADING = "this project loads the model, and never executes code in its folder"
_NO_EVALUATION = "RL has no evaluation data; see ask_every and ask_count"
_NO_METRICS = "no such metrics are computed"
_SHARED = {
    _RESUMED: ("resume_from_checkpoint", "ignore_data_skip", "save_only_model"),
    _OWN_LOADING: ("model_init_kwargs", "trust_remote_code"),
    "SIGTERM always saves a checkpoint, in all processes at the same step": (
        "enable_jit_checkpoint",
    ),
    "the command determines it": ("do_train", "do_eval", "do_predict"),
    "traces are not sorted by length": ("length_column_name",),
    "batch sizes are settings of the run": ("auto_find_batch_size",),
    _NO_METRICS: ("include_for_metrics", "batch_eval_metrics"),
}
_SFT = {
    "traces are never truncated: pictures would lose their tokens": (
        "max_length",
        "truncation_mode",
    ),
    _COLLATED: (
        *("dataset_text_field", "dataset_kwargs", "dataset_num_proc", "packing_strategy"),
        *("padding_free", "eval_packing", "pad_to_multiple_of", "completion_only_loss"),
    ),
    "the folder of the model determines it": ("chat_template_path", "eos_token"),
}
_RL = {
    _NO_EVALUATION: (
        *("num_generations_eval", "per_device_eval_batch_size", "eval_steps", "eval_delay"),
        *("eval_on_start", "eval_accumulation_steps", "bf16_full_eval", "fp16_full_eval"),
        *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    ),
    "rollouts are written by sample_every": (
        *("log_completions", "log_multimodal", "num_completions_to_print", "log_unique_prompts"),
        "log_completions_hub_repo",
    ),
    "the order of questions depends on seed and epoch": ("data_seed", "train_sampling_strategy"),
    _COLLATED: ("pad_to_multiple_of",),
}
_REQUIRED_OPTIONS = {
    ("ref_model_mixup_alpha", "ref_model_sync_steps"): ("sync_ref_model", True),
    ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"): (
        "use_adaptive_entropy",
        True,
    ),
    ("sapo_temperature_neg", "sapo_temperature_pos"): ("loss_type", "sapo"),
    ("vespo_k_pos", "vespo_k_neg", "vespo_lambda_pos", "vespo_lambda_neg"): ("loss_type", "vespo"),
}
"""options -> (another option, its required value); without it they have no effect"""
_GENERATION = {
    "max_new_tokens": "max_new_tokens at the top",
    "max_tokens": "max_new_tokens at the top",
    **{
        name: f"{name} under [trl]"
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    },
}
"""keys of `generation_kwargs` that are settings elsewhere -> the setting"""
_MINIMA: dict[str, tuple[type[float], float]] = {
    **dict.fromkeys(
        ("per_device_train_batch_size", "gradient_accumulation_steps", "save_total_limit"), (int, 1)
    ),
    **dict.fromkeys(("max_completion_length", "num_iterations"), (int, 1)),
    **dict.fromkeys(("seed", "top_k"), (int, 0)),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "beta"), (float, 0)),
    **dict.fromkeys(("epsilon", "epsilon_high", "warmup_steps"), (float, 0)),
}
"""option -> its type and minimum"""
_POSITIVE = {
    "temperature": "at 0 all rollouts of a question are the same, and nothing is learned",
    "top_p": "no token would be left",
    "num_train_epochs": "nothing would be trained",
    "save_steps": "a checkpoint needs a step",
    "logging_steps": "a log needs a step",
}
"""option -> reason why it must be above 0"""
_AT_MOST_1 = ("top_p", "min_p", "adam_beta1", "adam_beta2")


def check_options(options: dict[str, Any], *, is_rl: bool) -> None:
    """Raise an error for an option under `[trl]` that has no effect or cannot work.

    Raises:
        UsageError: the first such option, with the reason.

    >>> check_options({"max_length": 4096}, is_rl=False)
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected options under [trl] that have an effect; got max_length, which has none: traces are never truncated: pictures would lose their tokens. Fix: remove it
    """
    for reason, names in (*_SHARED.items(), *(_RL if is_rl else _SFT).items()):
        for name in names:
            if name in options:
                raise _without_effect(name, reason)
    _check_dependent(options)
    for name in options.get("generation_kwargs") or ():
        if name in _GENERATION:
            raise _wrong(
                "generation_kwargs for what has no option", name, f"set {_GENERATION[name]}"
            )
    for name, value in options.items():
        _check_number(name, value)


def _check_dependent(options: dict[str, Any]) -> None:
    for names, (other, value) in _REQUIRED_OPTIONS.items():
        if options.get(other) != value:
            for name in set(names) & set(options):
                shown = str(value).lower() if value is True else f'"{value}"'
                raise _without_effect(name, f"it needs {other} = {shown}")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(f"a finite {name} under [trl]", str(value), "correct it")
    if name not in {*_MINIMA, *_POSITIVE, *_AT_MOST_1}:
        return
    kind, least = _MINIMA.get(name, (float, -math.inf))
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        raise _wrong(f"{name} under [trl] as {kind.__name__}", repr(value), "correct its value")
    if value < least:
        raise _wrong(f"{name} of {least} or more under [trl]", str(value), "correct it")
    if name in _POSITIVE and value <= 0:
        raise _wrong(f"{name} above 0 under [trl]", f"{value}: {_POSITIVE[name]}", "raise it")
    if name in _AT_MOST_1 and value > 1:
        raise _wrong(f"{name} of 1 or less under [trl]", str(value), "lower it")


def _without_effect(name: str, reason: str) -> UsageError:
    return _wrong(
        "options under [trl] that have an effect", f"{name}, which has none: {reason}", "remove it"
    )


def _wrong(expected: str, got: str, fix: str) -> UsageError:
    return UsageError(expected=expected, got=got, fix=fix)
