"""Charts of training runs: which metrics of a log belong together, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Direction = Literal["", "higher", "lower"]


class Panel(NamedTuple):
    """One chart: its title and the metrics of the log that it shows, each with its own dash."""

    title: str
    names: tuple[str, ...]
    explanation: str
    section: str
    y_title: str = ""
    bottom: float | None = None
    top: float | None = None
    labels: tuple[str, ...] = ()
    """names of the metrics in the legend, where a chart shows several"""
    better: Direction = ""


ANSWERS = "Answers and operations"
REWARDS = "Rewards"
OPTIMIZATION = "Optimization"
VALIDATION = "Validation"
ROLLOUTS = "Rollouts"
SPEED = "Time, speed and memory"
SECTIONS = (ANSWERS, REWARDS, OPTIMIZATION, VALIDATION, ROLLOUTS, SPEED)
"""sections of a report, in order"""


def _share(title: str, names: tuple[str, ...], explanation: str, better: Direction = "") -> Panel:
    return Panel(title, names, explanation, ANSWERS, "share", 0, 1, better=better)


def _reward(title: str, name: str, explanation: str) -> Panel:
    return Panel(title, (f"rewards/{name}/mean",), explanation, REWARDS, "mean reward")


PANELS = (
    _share(
        "accuracy of rollouts",
        ("accuracy",),
        "Share of the rollouts of a step whose answer is right.",
        "higher",
    ),
    _share(
        "accuracy, questions that need an operation",
        ("accuracy/needs_look",),
        "The overview does not show what these questions ask for: without an operation the model guesses.",
        "higher",
    ),
    _share(
        "accuracy, overview questions",
        ("accuracy/overview",),
        "The overview suffices: operations cannot help here.",
        "higher",
    ),
    _share(
        "RaPR: share of rollouts with an operation",
        ("rapr",),
        "Rate of pixel-space reasoning. If it falls to 0, the model has stopped using operations.",
    ),
    _share(
        "RaPR, questions that need an operation",
        ("rapr/needs_look",),
        "A model that has learned when to use operations is high here and low in the next chart.",
    ),
    _share(
        "RaPR, overview questions",
        ("rapr/overview",),
        "Operations that are not needed: the cost term should lower it.",
    ),
    Panel(
        "operations per rollout",
        ("operations/executed", "operations/attempted"),
        "The distance of the two lines is the number of rejected calls.",
        ANSWERS,
        "operations",
        0,
        labels=("executed", "attempted"),
    ),
    _share(
        "share of rejected calls",
        ("operations/error_rate",),
        "Calls with errors, such as an invalid box. Curiosity pays executed operations only.",
        "lower",
    ),
    _reward("reward: correctness", "correctness", "1 for a right answer."),
    _reward(
        "reward: curiosity",
        "curiosity",
        "Bonus for an operation while few rollouts of a group use one. It ends when RaPR reaches H.",
    ),
    _reward("reward: cost", "cost", "Penalty for operations beyond the first N of a rollout."),
    Panel(
        "groups with equal rewards",
        ("replay/uniform_before", "replay/uniform_after"),
        "Rollouts of such groups have no advantage and teach nothing; replay replaces them.",
        REWARDS,
        "share",
        0,
        1,
        labels=("before replay", "after replay"),
    ),
    Panel(
        "loss",
        ("loss", "eval_loss"),
        "Evaluation loss above a falling training loss means that the model memorizes. In RL the loss says little.",
        OPTIMIZATION,
        "loss",
        labels=("training", "evaluation"),
        better="lower",
    ),
    Panel(
        "token accuracy",
        ("mean_token_accuracy", "eval_mean_token_accuracy"),
        "Share of trained tokens that the model predicts exactly, given all tokens before.",
        OPTIMIZATION,
        "share",
        labels=("training", "evaluation"),
        better="higher",
    ),
    Panel(
        "learning rate",
        ("learning_rate",),
        "With warm-up and schedule.",
        OPTIMIZATION,
        "learning rate",
        0,
    ),
    Panel(
        "gradient norm",
        ("grad_norm",),
        "Before clipping. Spikes mean unstable steps.",
        OPTIMIZATION,
        "norm",
        0,
    ),
    Panel(
        "entropy",
        ("entropy", "eval_entropy"),
        "Mean entropy of the predicted tokens. If it falls to 0 in RL, all rollouts of a group become equal.",
        OPTIMIZATION,
        "nats",
        0,
        labels=("training", "evaluation"),
    ),
    Panel(
        "share of clipped tokens",
        ("clip_ratio/region_mean",),
        "Tokens whose probability ratio left the clipping range: they have no gradient.",
        OPTIMIZATION,
        "share",
        0,
    ),
    Panel(
        "KL divergence",
        ("kl",),
        "From the reference policy, where a run has a KL term.",
        OPTIMIZATION,
        "KL",
        0,
    ),
    Panel(
        "length of a rollout",
        ("completions/mean_length",),
        "Tokens after the prompt, results of operations included.",
        ROLLOUTS,
        "tokens",
        0,
    ),
    Panel(
        "rollouts that were cut off",
        ("completions/clipped_ratio",),
        "They reached the limit of tokens without an end.",
        ROLLOUTS,
        "share",
        0,
        1,
        better="lower",
    ),
    Panel(
        "seconds per step",
        ("seconds/step", "perf/min/seconds/step", "perf/max/seconds/step"),
        "Validation, checkpoints and logs between steps are not included.",
        SPEED,
        "seconds",
        0,
        labels=("mean", "fastest process", "slowest process"),
    ),
    Panel(
        "generated tokens per second",
        ("perf/generated_tokens_per_s",),
        "Of all processes, per second of generation.",
        SPEED,
        "tokens per second",
        0,
        better="higher",
    ),
    Panel(
        "trained tokens per second",
        ("perf/trained_tokens_per_s",),
        "Tokens in forward and backward passes of all processes without padding, per second of the update.",
        SPEED,
        "tokens per second",
        0,
        better="higher",
    ),
    Panel(
        "model FLOPs utilization (MFU)",
        ("perf/mfu", "perf/mfu_generation", "perf/mfu_update"),
        "Share of the peak of the devices that the computations of the model use. Decoding is limited by memory: "
        "its MFU is low.",
        SPEED,
        "share",
        0,
        labels=("step", "generation", "update"),
        better="higher",
    ),
    Panel(
        "memory of a process",
        ("perf/memory_gib", "perf/min/memory_gib", "perf/max/memory_gib", "perf/peak_memory_gib"),
        "Resident memory. A line that keeps rising is a leak.",
        SPEED,
        "GiB",
        0,
        labels=("now", "smallest process", "largest process", "peak so far"),
        better="lower",
    ),
    Panel(
        "memory of a GPU",
        ("perf/cuda_memory_gib", "perf/min/cuda_memory_gib", "perf/max/cuda_memory_gib"),
        "Largest reserved memory so far.",
        SPEED,
        "GiB",
        0,
        labels=("mean", "smallest process", "largest process"),
        better="lower",
    ),
)
PHASES = {
    "update": "update",
    "generation": "generation",
    "operations": "operations",
    "logprobs": "log-probabilities",
    "reward": "reward",
    "ranks": "waiting for processes",
    "data": "waiting for data",
    "weights": "sending weights",
    "other": "replay buffer",
}
"""phase of a gradient step -> its name, in the order of a chart from the bottom"""
KNOWN = frozenset(name for panel in PANELS for name in panel.names) | {
    f"seconds/{name}" for name in PHASES
}
"""metrics that must be numbers in a log"""
_VALIDATION = re.compile(r"ask/(?P<family>[^/]+)/(?P<group>.+)/(?P<metric>accuracy|rapr)")
_REWARD = re.compile(r"rewards/(?P<name>[^/]+)/mean")
_MAX_LINES = 4
"""of one chart: so many dashes differ"""


def panels_of(metrics: Iterable[str]) -> list[Panel]:
    """Return the panels for the metrics of a log, in order: known ones, rewards of users, validation.

    >>> [panel.title for panel in panels_of(["loss", "rewards/brief/mean", "ask/video/overview/rapr"])]
    ['reward: brief', 'loss', 'validation RaPR: video']
    """
    names = list(dict.fromkeys(metrics))
    found = [panel for panel in PANELS if set(panel.names) & set(names)]
    found += [*_user_rewards(names), *_validation(names)]
    return sorted(found, key=lambda panel: SECTIONS.index(panel.section))


def _user_rewards(names: Iterable[str]) -> Iterator[Panel]:
    for name in names:
        if name not in KNOWN and (match := _REWARD.fullmatch(name)):
            explanation = "A reward function of the run (`reward_functions`)."
            yield _reward(f"reward: {match['name']}", match["name"], explanation)


def _validation(names: Iterable[str]) -> Iterator[Panel]:
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name in names:
        if match := _VALIDATION.fullmatch(name):
            key = (match["metric"], match["family"])
            groups.setdefault(key, []).append((name, match["group"].replace("_", " ")))
    for (metric, family), some in sorted(groups.items()):
        is_accuracy = metric == "accuracy"
        some = sorted(some)[:_MAX_LINES]
        yield Panel(
            f"validation {'accuracy' if is_accuracy else 'RaPR'}: {family}",
            tuple(name for name, _ in some),
            "Answers to PixelWorld questions that are not trained on, asked during training."
            if is_accuracy
            else "Share of these questions for which the model executed an operation.",
            VALIDATION,
            "share",
            0,
            1,
            labels=tuple(label for _, label in some),
            better="higher" if is_accuracy else "",
        )
