"""The embedded model from nothing: a gallery and seven stages.

    gallery  scenes rendered once                                        (`gallery`)
    see      the vision tower answers dense labels                       (`tower`)
    read     the same with mosaics of characters                         (`tower`)
    focus    the same with characters that lie across cells              (`tower`)
    look     the same with what operations return                        (`tower`)
    pages    the same with pages, and with crops of any size             (`tower`)
    print    the same, mostly with what is written on pages              (`tower`)
    reason   synthesized traces, on cached tokens                        (`language`)

Every stage resumes after a kill and is skipped when it is done. Pointing, reading and knowing when to look are
measured apart, by asking the model about validation scenes as real files.
"""

from __future__ import annotations

import random
import shutil
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.evals.run import TRACES
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.files import cannot_write
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import patches_as_product
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace, load_traces
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import is_right
from pixel_reasoner.tiny.build import (
    PROTOCOL,
    build_model,
    build_processor,
    build_tokenizer,
    save_folder,
)
from pixel_reasoner.tiny.language import (
    WATCHED,
    School,
    Tokens,
    cache_tokens,
    digit_accuracy,
    language_loss,
    without_operations,
)
from pixel_reasoner.tiny.loop import Metrics, Stage, run_stage
from pixel_reasoner.tiny.scene_cache import Gallery
from pixel_reasoner.tiny.tower import (
    PAGE_CLASSES,
    Probes,
    focusing_batch,
    looking_batch,
    paging_batch,
    printing_batch,
    reading_batch,
    seeing_batch,
    seeing_loss,
    shrink_tokens,
)
from pixel_reasoner.world import FAMILIES, Family, render, scenes

SCENES: dict[Family, int] = {"attribute": 12_000, "infographic": 4_000, "video": 4_000}
"""scenes of the gallery"""
BATCH = {"pictures": 48, "clips": 12, "overviews": 24}
"""traces in a step of the language model"""
CROWDED: tuple[Family, ...] = ("attribute", "count")
"""families whose overviews hold many shapes: to count them or to find the largest takes more lessons than a look does"""
POINTING: tuple[tuple[Family, str, str, int], ...] = (
    ("attribute", "x1", PROTOCOL[0], 2),
    ("attribute", "y1", PROTOCOL[0], 5),
    ("infographic", "x1", PROTOCOL[0], 2),
    ("infographic", "y1", PROTOCOL[0], 5),
    ("video", "frame", PROTOCOL[1], 1),
)
"""what tells whether a call points: its first digits, by their distance from the token that opens it"""
HELD_OUT = 0.05
"""share of the traces that the language model never trains on"""


def train(  # noqa: PLR0913 - what to learn from, how long, where to, and four switches
    traces: Path,
    out: Path,
    *,
    steps: int,
    tower: str = "",
    start: str = "",
    words: float = 0.0,
    seed: int = 0,
    scale: float = 1.0,
    install: bool = False,
) -> Path:
    """All stages; returns the folder of the finished model.

    Args:
        traces: a folder of `pixel-reasoner synth pixelworld`, written for the embedded model.
        out: for the gallery (14 GB), checkpoints, logs (`STAGE.jsonl`) and the model.
        steps: of the last stage, `reason`.
        tower: `tiny` or a model folder whose finished tower and tokenizer are taken over: only `reason` is trained.
        start: instead of `tower`; `reason` goes on from this one's language model.
        words: share of the lessons that answer in words alone though operations are offered: what needs a look is
            guessed. The habit of a model that has never looked; for experiments.
        seed: of weights and batches.
        scale: share of scenes and steps, to try the whole pipeline quickly.
        install: copy the result to where `--model tiny` looks.

    Raises:
        InputError: no such traces.
        ModelError: no such model, or one of another shape.
        OutputError: the folder cannot be written.
    """
    next(load_traces(traces / TRACES), None)  # a wrong path is told before anything is made
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    if tower or start:
        finished = LocalModel(start or tower)
        processor = build_processor(finished.processor.tokenizer)
        model = build_model(processor.tokenizer, seed)
        whole, ours = (
            (model, finished.model) if start else (model.model.visual, finished.model.model.visual)
        )
        whole.load_state_dict(ours.state_dict())
        patches_as_product(model.model.visual)
    else:
        counts = {family: max(24, round(n * scale)) for family, n in SCENES.items()}
        gallery = Gallery(out / "gallery", counts)
        processor = build_processor(build_tokenizer(_said(traces / TRACES)))
        model = build_model(processor.tokenizer, seed)
        _train_tower(model, processor, gallery, out, seed, scale)
        shrink_tokens(model.model.visual)
    cache = cache_tokens(model.model.visual, processor.image_processor, traces, out / "tokens.pt")
    folder = out / "model"
    school = School(cache.lessons, processor, COMPACT, words)
    stage = _stage("reason", steps, 3e-3, scale, muon=True, warmup=50)
    _train_language(model, school, cache.tokens, folder, seed, stage, max(8, round(100 * scale)))
    if install:
        shutil.copytree(folder, BUNDLED_MODELS["tiny"], dirs_exist_ok=True)
    return folder


def _train_tower(
    model: Any, processor: Any, gallery: Gallery, out: Path, seed: int, scale: float
) -> None:
    visual = model.model.visual
    patches_as_product(visual)
    torch.manual_seed(seed)
    width = visual.config.out_hidden_size
    probes = {name: Probes(width) for name in ("final", "early")}
    page_probes = {name: Probes(width, PAGE_CLASSES) for name in ("final", "early")}
    stages = (
        ("see", 1400, seeing_batch, probes),
        ("read", 1200, reading_batch, probes),
        ("focus", 1000, focusing_batch, probes),
        ("look", 1500, looking_batch, probes),
        ("pages", 1200, paging_batch, page_probes),
        ("print", 1000, printing_batch, page_probes),
    )
    for name, steps, batch, asked in stages:

        def loss(
            step: int, name: str = name, batch: Any = batch, asked: Any = asked
        ) -> tuple[torch.Tensor, Metrics]:
            rng = random.Random(f"{name}/{seed}/{step}")
            return seeing_loss(asked, visual, processor.image_processor, batch(gallery, rng))

        stage = _stage(name, steps, 1.5e-3, scale, muon=name not in ("see", "read"))
        run_stage(stage, {"visual": visual, **asked}, loss, out)


def _train_language(  # noqa: PLR0913 - a model, its lessons, how long, and how it is measured
    model: Any,
    school: School,
    cache: dict[Size, Tokens],
    folder: Path,
    seed: int,
    stage: Stage,
    count: int,
) -> None:
    model.model.visual.requires_grad_(requires_grad=False)
    model.model.language_model.set_attn_implementation(WATCHED)

    known = {family: _known(numbers) for family, numbers in school.lessons.families.items()}
    overviews = school.lessons.overviews
    groups = {
        # Pictures and clips apart: a clip's conversation is longer, and padding costs.
        "pictures": [numbers for family, numbers in known.items() if family != "video"],
        "clips": [known[family] for family in ("video",) if family in known],
        "overviews": [_known(overviews[family]) for family in CROWDED if family in overviews],
    }

    def loss(step: int) -> tuple[torch.Tensor, Metrics]:
        rng = random.Random(f"reason/{seed}/{step}")
        total = torch.zeros(())
        metrics: Metrics = {}
        for kind, families in groups.items():
            if not families:
                continue
            lessons = [
                school.lesson(rng.choice(rng.choice(families)), rng) for _ in range(BATCH[kind])
            ]
            part, told = language_loss(model, cache, lessons)
            total = total.to(part.device) + part
            metrics |= {f"{kind}_{key}": value for key, value in told.items()}
        return total, metrics

    measure = partial(_measure, model, school, cache, folder, count=count)
    run_stage(stage, {"model": model}, loss, folder.parent, measure)


def _known(numbers: list[int]) -> list[int]:
    """What is trained on."""
    return numbers[: round(len(numbers) * (1 - HELD_OUT))]


def _measure(
    model: Any,
    school: School,
    cache: dict[Size, Tokens],
    folder: Path,
    *,
    count: int,
    finished: bool,
) -> Metrics:
    """Pointing by teacher forcing on held-out scenes; when the stage ends, whole rollouts on validation files."""
    metrics: Metrics = {}
    for family, name, opening, offset in POINTING:
        numbers = school.lessons.families.get(family, [])
        held_out = numbers[len(_known(numbers)) :]
        if not held_out:
            continue
        rng = random.Random("held out")
        lessons = [school.lesson(rng.choice(held_out), rng) for _ in range(64)]
        token = school.processor.tokenizer.convert_tokens_to_ids(opening)
        metrics[f"{family}_{name}"] = digit_accuracy(model, cache, lessons, token, offset)
    if finished:
        save_folder(model, school.processor, folder)
        metrics |= validate(folder, folder.parent / "validation", count)
    return metrics


def validate(folder: Path, media: Path, count: int) -> Metrics:
    """Ask a model folder about validation scenes, and tell pointing, reading and knowing when to look apart."""
    model = LocalModel(str(folder))
    rules = RolloutConfig(sampling=SamplingParams(max_new_tokens=128))
    metrics: Metrics = {}
    for family in FAMILIES:
        questions = [
            with_media_root(q, media) for q in render(scenes(family, "validation", 0, count), media)
        ]
        traces = list(ask_many(questions, model, rules, batch_size=25))
        looks = [trace for trace in traces if trace.question.needs_look]
        hits = [trace for trace in looks if evidence_hit(trace)]
        rest = [trace for trace in traces if not trace.question.needs_look]
        metrics |= {
            f"{family}_accuracy": summarize(traces)["accuracy"],
            f"{family}_pointing": len(hits) / max(1, len(looks)),
            f"{family}_reading": _accuracy(hits),
            f"{family}_overview": _accuracy(rest),
            f"{family}_looks_when_needed": _ratio_looking(looks),
            f"{family}_looks_when_not": _ratio_looking(rest),
        }
    return metrics


def _ratio_looking(traces: list[Trace]) -> float:
    return sum(bool(trace.executed) for trace in traces) / max(1, len(traces))


def _accuracy(traces: list[Trace]) -> float:
    return sum(map(is_right, traces)) / max(1, len(traces))


def _stage(
    name: str, steps: int, lr: float, scale: float, *, muon: bool, warmup: int = 100
) -> Stage:
    def scaled(number: int) -> int:
        return max(1, round(number * scale))

    return Stage(
        name=name,
        steps=scaled(steps),
        lr=lr,
        warmup=scaled(warmup),
        log_every=scaled(25),
        save_every=scaled(100),
        measure_every=scaled(100),
        muon=muon,
    )


def _said(traces: Path, limit: int = 4000) -> list[str]:
    """What the tokenizer is trained on: everything that is said in the first traces.

    Raises:
        InputError: no such traces.
    """
    texts = [COMPACT.system_with_operations, COMPACT.system_without_operations]
    texts += ["Image 1:", "Frame 1:", "Image 17, frame 1:"]
    rng = random.Random("said")
    for trace in islice(load_traces(traces), limit):
        texts.append(trace.question.text)
        texts += [turn.text for turn in trace.turns]
        texts += [seen.text for seen in trace.rejected]
        texts += [turn.text for turn in without_operations(trace, rng).turns]
    return texts
