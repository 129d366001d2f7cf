"""Write the picture and the table of docs/scale.md: computed time and cost of RL and SFT on 1 to 64 GPUs.

python docs/scale_curves.py        # writes docs/scale.svg, and the tables between the marks of docs/scale.md

All numbers are those of `pixel-reasoner train sft|rl --plan` (`train/plan/gpu.py`), which are computed from data sheets.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.plan.estimate import (
    KNOWN_SHAPES,
    PlanOptions,
    plan,
    rl_workload,
    sft_workload,
)
from pixel_reasoner.train.plan.gpu import StepSeconds, find_listed_gpu, step_seconds
from pixel_reasoner.train.vllm.options import VllmOptions

DOCS = Path(__file__).parent
SIZES = {name: f"Qwen/Qwen2.5-VL-{name}-Instruct" for name in ("3B", "7B", "32B", "72B")}
GPUS = (1, 2, 4, 8, 16, 32, 64)
GPU = "H100"
PRICE = 2.5
"""of a GPU hour, in dollars; an example"""
OPTIONS = PlanOptions(gpu=GPU, price=PRICE, turns=2.0, turn_tokens=150, picture_tokens=1024)
STEPS = 100


class Point(NamedTuple):
    """One model on a number of GPUs."""

    gpus: int
    seconds: StepSeconds
    memory_gib: float

    @property
    def cost(self) -> float:
        """Price of `STEPS` gradient steps."""
        return STEPS * self.seconds.step / 3600 * self.gpus * PRICE


def rl_run(model: str, *, lora: int = 0) -> RlRun:
    """Return the run of the paper (arXiv 2505.15966), with generation on the training GPUs."""
    return RlRun(
        out="out",
        questions=("q",),
        model=model,
        lora_rank=lora,
        rollouts_at_once=64,
        vllm=VllmOptions(url=("http://127.0.0.1:8000",), colocated_memory=0.6),
        trl={"per_device_train_batch_size": 1, "max_completion_length": 2048},
    )


def sft_run(model: str, gpus: int) -> SftRun:
    """Return the SFT run of the paper: 128 traces per gradient step."""
    trl = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 128 // gpus,
        "gradient_checkpointing": True,
    }
    return SftRun(out="out", traces=("t",), model=model, trl=trl)


def rl_points(model: str, *, lora: int = 0) -> list[Point]:
    """Return the numbers of GPUs on which RL fits, with time and memory."""
    run, gpu = rl_run(model, lora=lora), find_listed_gpu(GPU)
    points = []
    for gpus in GPUS:
        options = OPTIONS._replace(gpus=gpus, like=model)
        try:
            planned = plan(run, gpus, gpu.memory_gib, model)
        except UsageError:
            continue  # does not fit
        work = rl_workload(run, planned, options)
        seconds = step_seconds(KNOWN_SHAPES[model], work, gpu, gpus, is_lora=bool(lora))
        points.append(Point(gpus, seconds, planned.bytes / 2**30))
    return points


def sft_points(model: str) -> list[Point]:
    """Return the time of SFT on each number of GPUs, whether it fits or not."""
    gpu = find_listed_gpu(GPU)
    return [
        Point(
            gpus,
            step_seconds(
                KNOWN_SHAPES[model],
                sft_workload(sft_run(model, gpus), OPTIONS._replace(gpus=gpus, like=model)),
                gpu,
                gpus,
                is_lora=False,
            ),
            0.0,
        )
        for gpus in GPUS
    ]


def table() -> str:
    """Return the table of RL on the numbers of GPUs where it fits."""
    lines = [
        "| model | GPUs | GiB per GPU | s per step | generation | update | network | weight sync | limited by | "
        f"${PRICE:g}: {STEPS} steps |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, model in SIZES.items():
        for lora in (0, 64):
            points = rl_points(model, lora=lora)
            shown = [one for one in points if one.gpus in (points[0].gpus, 8, 64)]
            for one in shown:
                t = one.seconds
                lines.append(
                    f"| {size}{', LoRA' if lora else ''} | {one.gpus} | {one.memory_gib:.0f} | {t.step:.0f} | "
                    f"{t.prefill + t.decode:.1f} | {t.compute:.1f} | {t.network:.1f} | {t.sync:.2f} | {t.limit} | "
                    f"{one.cost:,.0f} |"
                )
    return "\n".join(lines)


def insert_table(page: str) -> str:
    """Return a page with the table between its marks."""
    return re.sub(
        r"(<!-- table -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{table()}\n{match[2]}",
        page,
        flags=re.DOTALL,
    )


def draw(path: Path) -> None:
    """Draw cost against GPUs, and time against GPUs."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "scale", "font.size": 9, "svg.fonttype": "none"})
    figure, (cost, time) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    for number, (size, model) in enumerate(SIZES.items()):
        for lora, style in ((0, "-"), (64, "--")):
            points = rl_points(model, lora=lora)
            gpus = [one.gpus for one in points]
            label = f"{size}{', LoRA' if lora else ''}"
            line = {"color": f"C{number}", "linestyle": style, "marker": "o", "markersize": 3}
            cost.plot(gpus, [one.cost for one in points], label=label, **line)
            hours = [STEPS * one.seconds.step / 3600 for one in points]
            time.plot(gpus, hours, label=label, **line)
    titles = f"cost in $ ({PRICE:g} per GPU hour)", "hours"
    ticks = (10, 20, 50, 100, 200, 500), (0.1, 0.2, 0.5, 1, 2, 5, 10)
    for axes, title, of_y in zip((cost, time), titles, ticks, strict=True):
        axes.set(xscale="log", yscale="log", xlabel=f"{GPU} GPUs", title=title)
        axes.set_yticks(of_y, [f"{one:g}" for one in of_y])
        axes.set_xticks(GPUS, [str(one) for one in GPUS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    time.legend(fontsize=7, ncols=2)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def main() -> None:
    """Write picture and table."""
    draw(DOCS / "scale.svg")
    page = DOCS / "scale.md"
    page.write_text(insert_table(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
