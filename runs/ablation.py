"""What each part of the method does: RL from the same checkpoint with one part switched off, three seeds each.

.venv/bin/python runs/ablation.py run [START/ARM ...]     # hours on two cores; killed? run it again
.venv/bin/python runs/ablation.py render                  # runs/ablation/*.json -> docs/results.md

A start is a warm-started model. `clumsy` answered in words alone and has then seen few traces that look, as in the
paper: its looks fail more often than they help. `good` is the model in the box. An arm is RL from a start, or the
start alone, asked about the test split with operations and without. All of it is done by the commands that a user
has: `synth`, `train tiny`, `train rl`, `eval pixelworld`.

What is committed can be gone on with on any machine: the starts (`runs/ablation/*.safetensors`, what their language models
have learned, in 16 bits) and the rows of finished jobs (`results.json`, `curves.json`). A job whose rows are there is not run again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from PIL import Image
from rl_runs import Options, as_toml, call, half_interval, is_complete, merged, say, share_folder
from safetensors.torch import load_file, save_file

from pixel_reasoner.files import atomic_writer, write_bytes, write_json
from pixel_reasoner.models.folder import model_folder
from pixel_reasoner.reports.training_log import read_log
from pixel_reasoner.sources.pixelworld import WorldMix, world_questions

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "runs" / "ablation"
RESULTS = OUT / "results.json"
CURVES = OUT / "curves.json"
PAGE = ROOT / "docs" / "results.md"
PICTURE = ROOT / "docs" / "curves-{}.png"
COLORS = (
    *("#0b6e99", "#c8553d", "#3d8b40", "#8e5ea2", "#b8860b", "#555555", "#d4569f", "#1b998b"),
    *("#7a4419", "#5c80bc", "#99c24d"),
)
"""line colors of the arms"""
SEEDS = (0, 1, 2)
KINDS = ("needs_look", "overview")
QUESTIONS = 200
"""of the test split, for each family"""
STEPS = {"clumsy": 100, "good": 15}
"""gradient steps of 128 rollouts: a start whose looks fail takes longer to find out"""
MORE_STEPS = 150
MIX = WorldMix(count=128, seed=800_000, overview_share=0.3)
RUN: Options = {
    "out": ".",
    "questions_per_sync": 16,
    "group_size": 8,
    "minibatch": 128,
    "rollouts_at_once": 128,
    "max_new_tokens": 96,
    "sample_every": 20,
    "pixelworld": {
        "count": MIX.count,
        "seed": MIX.seed,
        "overview_share": MIX.overview_share,
    },
    # Two operations are free, not one: two of the five families ask about two places. A call that is rejected, and then a
    # guess, is wrong: rewarded as a guess it is cheaper than an operation, and the share of rejected calls grows (`dev/LOG.md`).
    "reward": {"N": 2, "ignored_refusal_is_wrong": True},
    "trl": {
        "per_device_train_batch_size": 4,
        "learning_rate": 2e-4,
        "temperature": 0.8,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 10,
        "scale_rewards": "group",
        "max_completion_length": 1500,
        "save_steps": 10,
        "save_total_limit": 1,
        "disable_tqdm": True,
    },
}
"""run of all arms, beside the defaults of the paper"""
DRAWN = {
    "rapr/needs_look": "RaPR, needs an operation",
    "rapr/overview": "RaPR, overview",
    "accuracy/needs_look": "accuracy, needs an operation",
    "accuracy/overview": "accuracy, overview",
}

# --- what is compared ---


class Start(NamedTuple):
    """A model that RL begins with: what it goes on from, traces, and how it learns from them."""

    begin: str
    """`tiny` or the name of a start"""
    synth: str
    train: str


class Arm(NamedTuple):
    """A start, and RL from it; None: the start alone."""

    start: str
    name: str
    model: str
    """name of a start, or `tiny`"""
    options: Options | None
    """options that differ from `RUN`"""
    about: str
    goes_on: str = ""
    """the arm of the same start whose model it goes on from, seed by seed"""

    @property
    def steps(self) -> int:
        """Gradient steps of its run."""
        return MORE_STEPS if self.goes_on else STEPS[self.start]


_SYNTH = "--count 3000 --seed 900000 --margin 0 --min-side 0.18"
_FEW = "--words 0.5 --steps 15"
STARTS = {
    # Sees as well as ever, and has lost the habit of looking: what a VLM is before the method. A tenth of the lessons offers no operation.
    "words": Start("tiny", _SYNTH, "--words 0.9 --steps 150"),
    "clumsy": Start("words", _SYNTH, _FEW),
    "clumsy-no-corrections": Start("words", f"{_SYNTH} --no-mistakes", _FEW),
    # Answers half of the questions at once, whatever the height of the evidence: the start of `runs/studies.py run when`.
    "by-chance": Start("tiny", f"{_SYNTH} --world 2", "--words 0.5 --steps 60"),
}
ARMS = (
    Arm("clumsy", "warm start alone", "clumsy", None, "no RL"),
    Arm("clumsy", "full", "clumsy", {}, "the method"),
    Arm("clumsy", "full, longer", "clumsy", {}, f"{MORE_STEPS} more steps of the method", "full"),
    Arm("clumsy", "no curiosity", "clumsy", {"reward": {"alpha": 0.0}}, "alpha = 0"),
    Arm("clumsy", "no cost", "clumsy", {"reward": {"beta": 0.0}}, "beta = 0"),
    Arm("clumsy", "no replay", "clumsy", {"replay": False}, "no selective sample replay"),
    Arm(
        "clumsy",
        "constants of the paper",
        "clumsy",
        {"reward": {"N": 1, "ignored_refusal_is_wrong": False}},
        "one operation is free, and a guess after a rejected call is right",
    ),
    Arm(
        "clumsy",
        "released code",
        "clumsy",
        {"reward": {"variant": "released_code"}},
        "the formula of the upstream code",
    ),
    Arm(
        "clumsy",
        "no corrections",
        "clumsy-no-corrections",
        {},
        "every trace of the warm start looks rightly at once",
    ),
    Arm("clumsy", "no warm start", "words", {}, "RL begins with the model that answers in words"),
    Arm("good", "warm start alone", "tiny", None, "no RL"),
    Arm("good", "full", "tiny", {}, "the method"),
    Arm("good", "no curiosity", "tiny", {"reward": {"alpha": 0.0}}, "alpha = 0"),
    Arm("good", "no cost", "tiny", {"reward": {"beta": 0.0}}, "beta = 0"),
)


class Job(NamedTuple):
    """One arm with one seed."""

    arm: Arm
    seed: int

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return (
            OUT / self.arm.start / f"{self.arm.name.replace(',', '').replace(' ', '-')}-{self.seed}"
        )

    @property
    def before(self) -> Job | None:
        """The job whose model it goes on from."""
        before = [a for a in ARMS if (a.start, a.name) == (self.arm.start, self.arm.goes_on)]
        return Job(before[0], self.seed) if before else None


def jobs(only: Sequence[str] = (), seeds: Sequence[int] = SEEDS) -> list[Job]:
    """All arms and seeds, seed by seed; the start alone is greedy and has no seed."""
    chosen = [arm for arm in ARMS if not only or f"{arm.start}/{arm.name}" in only]
    return [
        Job(arm, seed) for seed in seeds for arm in chosen if arm.options is not None or not seed
    ]


# --- running ---


def run(only: Sequence[str], workers: int, seeds: Sequence[int] = SEEDS) -> None:
    """Everything that is not done yet; `results.json` grows job by job."""
    done = {_key(row) for row in _committed(RESULTS)}
    todo = [job for job in jobs(only, seeds) if _key(_named(job)) not in done]
    for name in {job.arm.model: None for job in todo}:
        warm_start(name)
    list(world_questions(MIX, OUT / "questions"))  # rendered once for all
    with ThreadPoolExecutor(workers) as pool:
        for number, job in enumerate(pool.map(_do, todo), start=1):
            collect()
            say(
                f"{time.strftime('%H:%M')} {number} of {len(todo)}: {job.arm.start}/{job.arm.name}, seed {job.seed}"
            )


def warm_start(name: str) -> str:
    """The model of a start, made if it was never made: traces, and a language model that learns from them."""
    if name == "tiny":
        return name
    folder, kept = OUT / "starts" / name, OUT / f"{name}.safetensors"
    if not kept.exists():
        _make_start(name, folder)
        keep_start(folder / "model", kept)
    model = folder / "start"
    if not is_complete(model):
        restore_start(kept, model)
    return str(model)


def _make_start(name: str, folder: Path) -> None:
    start = STARTS[name]
    if is_complete(folder / "model"):
        return
    begin = warm_start(start.begin)
    traces = folder / "synth"
    call(
        folder,
        *f"synth pixelworld {start.synth} --workers 2".split(),
        "--out",
        str(traces),
        threads=1,
    )
    train = f"train tiny --from {begin} {start.train}".split()
    call(folder, *train, "--traces", str(traces), "--out", str(folder), threads=1)


def keep_start(model: Path, kept: Path) -> None:
    """What a start's language model has learned, in 16 bits: its tower is that of the model in the box."""
    learned = load_file(model / "model.safetensors")
    few = {name: one.bfloat16() for name, one in learned.items() if ".visual." not in name}
    part = kept.with_suffix(".part")
    save_file(few, part)
    part.replace(kept)


def restore_start(kept: Path, model: Path) -> None:
    """A start as a model folder again. This, rounded, is what RL begins with."""
    part = model.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(model_folder("tiny"), part)
    whole = load_file(part / "model.safetensors")
    for name, one in load_file(kept).items():
        assert whole[name].shape == one.shape, name
        whole[name] = one.to(whole[name].dtype)
    save_file(whole, part / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(model, ignore_errors=True)
    part.replace(model)


def _do(job: Job) -> Job:
    folder = job.folder
    folder.mkdir(parents=True, exist_ok=True)
    model = _tuned(job)
    for name, more in (("eval", ()), ("eval-without", ("--no-operations",))):
        share_folder(folder / name / "media", OUT / "media")
        asked = f"eval pixelworld --family all --split test --count {QUESTIONS} --batch-size 32"
        if not (folder / name / "summary.json").exists():
            call(
                folder,
                *asked.split(),
                "--model",
                model,
                "--out",
                str(folder / name),
                *more,
                threads=1,
            )
    return job


def _tuned(job: Job) -> str:
    """The model of a job, trained if it is not yet."""
    folder, begin = job.folder, warm_start(job.arm.model)
    if job.arm.options is None:
        return begin
    if job.before is not None:
        begin = _tuned(job.before)
    share_folder(folder / "questions", OUT / "questions")
    write_run(job, begin, folder / "run.toml")
    if not is_complete(folder / "model"):
        call(folder, "train", "rl", str(folder / "run.toml"), threads=1)
    return str(folder / "model")


def write_run(job: Job, model: str, path: Path) -> None:
    """The run of a job as `train rl` reads it."""
    assert job.arm.options is not None, "the start alone is not trained"
    options = merged({"model": model, **RUN}, job.arm.options)
    options["trl"] |= {"seed": job.seed, "max_steps": job.arm.steps}
    with atomic_writer(path) as file:
        file.write(f"# {job.arm.start}/{job.arm.name}: {job.arm.about}\n{as_toml(options)}")


def collect() -> None:
    """All finished jobs as rows, and their curves: those of this machine, and those that were committed on others."""
    rows, curves = [], []
    here = set()
    for job in jobs():
        summaries = [job.folder / name / "summary.json" for name in ("eval", "eval-without")]
        if not all(path.exists() for path in summaries):
            continue
        with_, without = (json.loads(path.read_text(encoding="utf-8")) for path in summaries)
        here.add(_key(_named(job)))
        rows += _rows(job, with_["by_family"], without["by_family"])
        if job.arm.options is not None:
            # a run that was gone on with has rows of its summaries between its steps
            log = [row for row in read_log(job.folder) if "rapr" in row]
            points = {name: [row.get(name) for row in log] for name in DRAWN}
            curves.append(_named(job) | points)
    write_json(_merged(rows, RESULTS, here), RESULTS)
    write_json(_merged(curves, CURVES, here), CURVES)


def _merged(ours: list[dict[str, Any]], path: Path, here: set[tuple[Any, ...]]) -> list[Any]:
    """Rows of this machine and those of others, in the order of the jobs."""
    order = {_key(_named(job)): n for n, job in enumerate(jobs())}
    others = [row for row in _committed(path) if _key(row) not in here and _key(row) in order]
    return sorted([*ours, *others], key=lambda row: order[_key(row)])


def _committed(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if path.exists():
        rows = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["start"], row["arm"], row["seed"]


def _named(job: Job) -> dict[str, Any]:
    return {"start": job.arm.start, "arm": job.arm.name, "seed": job.seed}


def _rows(job: Job, with_: Any, without: Any) -> Iterator[dict[str, Any]]:
    for family, figures in with_.items():
        for kind in KINDS:
            ours, bare = figures["by_category"][kind], without[family]["by_category"][kind]
            yield {
                **_named(job),
                "family": family,
                "kind": kind,
                "accuracy_with": ours["accuracy"],
                "accuracy_without": bare["accuracy"],
                "rapr": ours["rapr"],
                "operation_error_rate": ours["operation_error_rate"],
                "count": ours["count"],
            }


# --- telling ---


def interval(shares: Sequence[float], questions: int) -> tuple[float, float]:
    """Mean and half a 95 % interval of a share that several seeds have, each asked the same questions.

    Two things are uncertain: the seeds (Student's t) and which questions were asked (binomial, once for all seeds).

    >>> [round(x, 3) for x in interval([0.5], 100)]
    [0.5, 0.098]
    >>> [round(x, 3) for x in interval([0.4, 0.5, 0.6], 100)]
    [0.5, 0.267]
    """
    mean = statistics.fmean(shares)
    of_questions = 1.96 * math.sqrt(max(0.0, mean * (1 - mean)) / questions)
    return mean, math.hypot(of_questions, half_interval(shares))


def over_families(rows: Iterable[Mapping[str, Any]], figure: str) -> tuple[list[float], int]:
    """A figure's mean over families for each seed, and how many questions a seed was asked."""
    seeds: dict[int, list[float]] = defaultdict(list)
    asked: dict[int, int] = defaultdict(int)
    for row in rows:
        asked[row["seed"]] += row["count"]
        if row[figure] is not None:
            seeds[row["seed"]].append(row[figure])
    return [statistics.fmean(some) for some in seeds.values()], max(asked.values(), default=0)


def render() -> None:
    """Tables and curves of `docs/results.md`, between its marks; the words around them are written by hand."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    curves = json.loads(CURVES.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    for start in dict.fromkeys(arm.start for arm in ARMS):
        chosen = [row for row in rows if row["start"] == start]
        parts = {"table": _table, "families": _families, "differences": _differences}
        for name, lines in parts.items():
            page = _between(page, f"{start} {name}", "\n".join(lines(chosen)))
        drawn = [curve for curve in curves if curve["start"] == start]
        write_bytes(_draw(_by_arm(drawn)), Path(str(PICTURE).format(start)))
    with atomic_writer(PAGE) as file:
        file.write(page)


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| arm | seeds | needs an operation: with | without | RaPR | overview: with | RaPR | calls rejected |"
    yield "| --- |" + " --- |" * 7
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        look, rest = ([row for row in mine if row["kind"] == kind] for kind in KINDS)
        cells = [
            *(_cell(look, figure) for figure in ("accuracy_with", "accuracy_without", "rapr")),
            *(_cell(rest, figure) for figure in ("accuracy_with", "rapr")),
            _cell(mine, "operation_error_rate"),
        ]
        yield f"| {arm} | {len({row['seed'] for row in mine})} | {' | '.join(cells)} |"


def _cell(rows: Sequence[Mapping[str, Any]], figure: str) -> str:
    shares, asked = over_families(rows, figure)
    return "{:.3f} ± {:.3f}".format(*interval(shares, asked)) if shares else "–"


def _families(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    families = list(dict.fromkeys(row["family"] for row in rows))
    yield f"| arm, questions that need an operation | {' | '.join(families)} |"
    yield "| --- |" + " --- |" * len(families)
    for arm in dict.fromkeys(row["arm"] for row in rows):
        cells = []
        for family in families:
            mine = [
                row
                for row in rows
                if (row["arm"], row["family"], row["kind"]) == (arm, family, "needs_look")
            ]
            both = (_cell(mine, figure) for figure in ("accuracy_with", "accuracy_without"))
            cells.append(" / ".join(both))
        yield f"| {arm} | {' | '.join(cells)} |"


def _differences(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The method minus each other arm, where a look is needed. Intervals are wide: that all were asked the same questions is not used."""
    look = [row for row in rows if row["kind"] == "needs_look"]
    figures = ("accuracy_with", "rapr")
    yield "| full minus | accuracy with operations, needs an operation | RaPR, needs an operation |"
    yield "| --- | --- | --- |"
    ours = {name: _estimate(look, "full", name) for name in figures}
    for arm in dict.fromkeys(row["arm"] for row in look if row["arm"] != "full"):
        cells = []
        for name in figures:
            (mean, half), (other, other_half) = ours[name], _estimate(look, arm, name)
            cells.append(f"{mean - other:+.3f} ± {math.hypot(half, other_half):.3f}")
        yield f"| {arm} | {' | '.join(cells)} |"


def _estimate(rows: Sequence[Mapping[str, Any]], arm: str, figure: str) -> tuple[float, float]:
    return interval(*over_families([row for row in rows if row["arm"] == arm], figure))


def _by_arm(curves: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    arms: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for curve in curves:
        arms[curve["arm"]].append(curve)
    return arms


_GOING_ON = {arm.name for arm in ARMS if arm.goes_on}


def _draw(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Figures of rollouts over the steps: a line is the mean of an arm's seeds, the band reaches from the lowest to the highest."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, (name, title) in zip(panels, DRAWN.items(), strict=True):
        for color, (arm, curves) in zip(COLORS[: len(arms)], arms.items(), strict=True):
            lines = [smoothed([value or 0.0 for value in curve[name]], 0.15) for curve in curves]
            first = STEPS[curves[0]["start"]] if arm in _GOING_ON else 0
            steps = range(first + 1, first + len(lines[0]) + 1)
            by_step = list(zip(*lines, strict=True))
            axes.plot(steps, [statistics.fmean(some) for some in by_step], color=color, label=arm)
            axes.fill_between(
                steps,
                *zip(*((min(s), max(s)) for s in by_step), strict=True),
                color=color,
                alpha=0.15,
            )
        axes.set_title(title, loc="left")
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(figure.axes)[2:]:
        axes.set_xlabel("step")
    figure.axes[0].legend(frameon=False, fontsize="small")
    return _as_png(figure)


def smoothed(values: Sequence[float], share: float) -> list[float]:
    """Means over a window around each value, the window as a share of all values."""
    reach = int(len(values) * share / 2)
    windows = [values[max(0, n - reach) : n + reach + 1] for n in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _as_png(figure: Figure) -> bytes:
    """Return a figure as PNG with a palette of 64 colors, a third of the size. Equal figures give equal bytes."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100, metadata={"Software": None})
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(64).save(small, "png", optimize=True)
    return small.getvalue()


def _between(page: str, mark: str, text: str) -> str:
    """A page with what stands between two marks replaced."""
    opening, closing = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, found, rest = page.partition(opening)
    _, closed, after = rest.partition(closing)
    if not (found and closed):
        sys.exit(f"{PAGE}: expected {opening} and {closing}")
    return f"{before}{opening}\n{text}\n{closing}{after}"


def main() -> None:
    """`run` or `render`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("run", "render"))
    parser.add_argument("only", nargs="*", help="some of: " + ", ".join(_names()))
    parser.add_argument("--workers", type=int, default=2, help="jobs at once, one core each")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="some of the seeds")
    asked = parser.parse_args()
    if unknown := set(asked.only) - set(_names()):
        parser.error(f"no such arm: {', '.join(sorted(unknown))}")
    if asked.do == "run":
        run(asked.only, asked.workers, asked.seeds)
    else:
        render()


def _names() -> list[str]:
    return [f"{arm.start}/{arm.name}" for arm in ARMS]


if __name__ == "__main__":
    main()
