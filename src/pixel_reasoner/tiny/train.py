"""Training of the bundled model from scratch: scene caches and seven stages.

    characters, print, views, crowds, sharpen
            vision tower against dense labels, for text, then for both worlds   (`batches`, `tower`)
    conclude
            language model on what follows from pictures that are described in words   (`conclusions`)
    reason  language model on synthesized traces, over cached visual tokens     (`examples`, `language`)

Every stage resumes after a kill, and a finished stage is skipped. Validation runs the model on rendered files and
measures
pointing, character recognition and the choice of operations separately.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.evals.run import SETTINGS, TRACES
from pixel_reasoner.files import output_errors, read_json_object
from pixel_reasoner.models.folder import BUNDLED_MODELS, check_trained_world
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import batch_attention_segments, embed_patches_by_matmul
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.tiny import conclusions
from pixel_reasoner.tiny.attention import OBSERVED_ATTENTION
from pixel_reasoner.tiny.batches import TOWER_STAGES, TowerStage
from pixel_reasoner.tiny.build import (
    SHAPES,
    build_model,
    build_processor,
    build_tokenizer,
    save_folder,
    shape_of,
)
from pixel_reasoner.tiny.config import TinyConfig
from pixel_reasoner.tiny.examples import ExampleBuilder, without_operations
from pixel_reasoner.tiny.language import language_loss, text_loss
from pixel_reasoner.tiny.loop import Metrics, Stage, run_stage
from pixel_reasoner.tiny.mixture import (
    Part,
    TraceSet,
    draw_examples,
    example_groups,
    parts_of_families,
)
from pixel_reasoner.tiny.scene_cache import SceneCache
from pixel_reasoner.tiny.token_cache import cache_tokens
from pixel_reasoner.tiny.tower import Probes, make_probes, shrink_tokens, tower_loss
from pixel_reasoner.tiny.validate import pointing_accuracy, validate
from pixel_reasoner.tiny.version_cache import VersionCache
from pixel_reasoner.world import Family

NUM_SCENES: dict[Family, int] = {"attribute": 5_000, "infographic": 4_000, "video": 2_500}
"""number of scenes in the cache"""
NUM_VERSIONS = {"pictures": 8_000, "crowds": 3_000, "clips": 2_500}
"""number of scenes of PixelWorld 2 in their cache"""
MIN_SCENES = 24
NUM_VALIDATION_SCENES = 100
"""number of validation scenes per family, at the end of the last stage"""
NUM_HELD_OUT_EXAMPLES = 64
"""number of examples per family to measure pointing"""
NUM_TOKENIZER_TRACES = 4000
LANGUAGE_LR = 3e-3
CONCLUDE_STEPS = 500
"""number of steps of the stage `conclude`"""


def train(config: TinyConfig) -> Path:
    """Run all stages and return the folder of the finished model.

    Raises:
        InputError: no traces.
        ModelError: no such model, or a model with another architecture.
        OutputError: the folder cannot be written.
    """
    for folder in config.trace_folders:
        next(load_traces(folder / TRACES), None)  # fail on a wrong path before creating any output
        if start := config.tower or config.start:
            check_trained_world(start, world_of_traces(folder))
    with FolderLock(config.out), output_errors(config.out):
        return _train(config)


def world_of_traces(traces: Path) -> int:
    """Return the version of PixelWorld in the settings of synthesized traces; 1 if it is not recorded."""
    path = traces / SETTINGS
    if not path.exists():
        return 1
    fields = read_json_object(path, "the settings of the traces", "write the traces again")
    return int(fields.get("world_version", 1))


def _train(config: TinyConfig) -> Path:
    model, processor = (
        _started_from(config) if config.tower or config.start else _with_trained_tower(config)
    )
    visual = model.model.visual
    sources = []
    for folder in config.trace_folders:
        path = config.out / "tokens.pt"
        cached = cache_tokens(visual, processor.image_processor, folder, path)
        builder = ExampleBuilder(cached.traces, processor, COMPACT, config.words)
        sources.append(TraceSet(builder, cached.tokens))
    if not config.start:
        _train_conclusions(model, sources, config)
    _train_language(model, sources, config)
    if config.install:
        shutil.copytree(config.out / "model", BUNDLED_MODELS["tiny"], dirs_exist_ok=True)
    return config.out / "model"


def tokenizer_texts(traces: Path, limit: int = NUM_TOKENIZER_TRACES) -> list[str]:
    """Return training texts of the tokenizer from one file: prompts, questions, turns and errors of the first traces.

    Raises:
        InputError: no such traces.
    """
    texts = [COMPACT.system_with_operations, COMPACT.system_without_operations]
    texts += ["Image 1:", "Frame 1:", "Image 17, frame 1:"]
    rng = random.Random("said")
    for trace in islice(load_traces(traces), limit):
        texts.append(trace.question.text)
        texts += [turn.text for turn in trace.turns]
        texts += [observation.text for observation in trace.rejected]
        texts += [turn.text for turn in without_operations(trace, rng).turns]
    return texts


def _started_from(config: TinyConfig) -> tuple[Any, Any]:
    """Return a model with the tower, or with all weights, of a finished model."""
    finished = LocalModel(config.start or config.tower)
    processor = build_processor(finished.processor.tokenizer)
    model = build_model(processor.tokenizer, config.seed, shape_of(finished.model.config))
    if config.start:
        model.load_state_dict(finished.model.state_dict())
    else:
        model.model.visual.load_state_dict(finished.model.model.visual.state_dict())
    embed_patches_by_matmul(model.model.visual)
    batch_attention_segments(model.model.visual)
    return model, processor


def _with_trained_tower(config: TinyConfig) -> tuple[Any, Any]:
    """Return an untrained model with a fully trained tower."""
    texts = [text for folder in config.trace_folders for text in tokenizer_texts(folder / TRACES)]
    processor = build_processor(build_tokenizer(texts))
    model = build_model(processor.tokenizer, config.seed, SHAPES[config.size])
    visual = model.model.visual
    embed_patches_by_matmul(visual)
    batch_attention_segments(visual)
    torch.manual_seed(config.seed)
    probes = make_probes(visual)
    views = cache(
        partial(_rendered_views, config)
    )  # not needed by the first stages, and if all are finished
    for stage in TOWER_STAGES:
        _train_tower(visual, processor, views, probes, stage, config)
    shrink_tokens(visual)
    return model, processor


def _rendered_views(config: TinyConfig) -> SceneCache:
    """Return the views of all scenes, rendered if they are missing."""
    counts = {
        family: max(MIN_SCENES, round(count * config.scale)) for family, count in NUM_SCENES.items()
    }
    version_counts = {
        name: max(MIN_SCENES, round(count * config.scale)) for name, count in NUM_VERSIONS.items()
    }
    versions = VersionCache(config.out / "versions", version_counts)
    # Folders of earlier versions also have this name.
    return SceneCache(config.out / "gallery", counts, versions)


def _train_tower(
    visual: Any,
    processor: Any,
    views: Callable[[], SceneCache],
    probes: dict[str, Probes],
    stage: TowerStage,
    config: TinyConfig,
) -> None:
    def losses(step: int) -> Iterator[tuple[torch.Tensor, Metrics]]:
        rng = random.Random(f"{stage.name}/{config.seed}/{step}")
        for group, pictures in stage.batch(views, rng).items():
            drawn = rng.sample(pictures, _scaled(len(pictures), config.batch_share))
            part, of_group = tower_loss(
                probes, visual, processor.image_processor, drawn, stage.early_weight
            )
            named = {f"{group}_{name}": value for name, value in of_group.items()}
            yield stage.weights.get(group, 1.0) * part, named

    scaled = _scaled_stage(stage.name, stage.steps, stage.lr, config.scale)
    run_stage(scaled, {"visual": visual, **probes}, losses, config.out)


def _train_conclusions(model: Any, sources: Sequence[TraceSet], config: TinyConfig) -> None:
    parts = parts_of_families(sources, conclusions.FAMILIES)
    if not parts:
        return
    count = _scaled(conclusions.EXAMPLES_PER_FAMILY, config.batch_share)

    def losses(step: int) -> Iterator[tuple[torch.Tensor, Metrics]]:
        rng = random.Random(f"conclude/{config.seed}/{step}")
        return _conclusion_losses(model, parts, rng, count)

    stage = _scaled_stage("conclude", CONCLUDE_STEPS, LANGUAGE_LR, config.scale, warmup=20)
    run_stage(stage, {"model": model}, losses, config.out)


def _conclusion_losses(
    model: Any, parts: Mapping[str, Sequence[Part]], rng: random.Random, count: int
) -> Iterator[tuple[torch.Tensor, Metrics]]:
    """Yield the share of each family in the mean loss of the families, and its metrics."""
    for family, examples in conclusions.draw_conclusions(parts, rng, count):
        part, of_family = text_loss(model, examples)
        named = {f"words_{family}_{name}": value for name, value in of_family.items()}
        yield part / len(parts), named


def _train_language(model: Any, sources: Sequence[TraceSet], config: TinyConfig) -> None:
    model.model.visual.requires_grad_(requires_grad=False)
    model.model.language_model.set_attn_implementation(OBSERVED_ATTENTION)
    groups = example_groups(sources)
    parts = parts_of_families(sources, conclusions.FAMILIES)
    kept = _scaled(conclusions.KEPT_PER_FAMILY, config.batch_share)

    def losses(step: int) -> Iterator[tuple[torch.Tensor, Metrics]]:
        rng = random.Random(f"reason/{config.seed}/{step}")
        for group, examples, tokens in draw_examples(groups, rng, config.batch_share):
            part, of_group = language_loss(model, tokens, examples, call_weight=config.call_weight)
            yield part, {f"{group}_{name}": value for name, value in of_group.items()}
        yield from _conclusion_losses(model, parts, rng, kept)

    def measure(*, finished: bool) -> Metrics:
        num_examples = _scaled(NUM_HELD_OUT_EXAMPLES, config.batch_share)
        metrics: Metrics = {}
        for source in sources:
            metrics |= pointing_accuracy(model, source, num_examples)
        if finished:
            folder = config.out / "model"
            worlds = tuple(sorted(set(map(world_of_traces, config.trace_folders))))
            save_folder(model, sources[0].builder.processor, folder, worlds)
            count = max(8, round(NUM_VALIDATION_SCENES * config.scale))
            metrics |= validate(folder, config.out / "validation", count, worlds)
        return metrics

    stage = _scaled_stage("reason", config.steps, LANGUAGE_LR, config.scale, warmup=50)
    run_stage(stage, {"model": model}, losses, config.out, measure)


def _scaled_stage(name: str, steps: int, lr: float, scale: float, warmup: int = 100) -> Stage:
    return Stage(
        name=name,
        steps=_scaled(steps, scale),
        lr=lr,
        warmup=_scaled(warmup, scale),
        log_every=_scaled(25, scale),
        save_every=_scaled(100, scale),
        measure_every=_scaled(100, scale),
    )


def _scaled(number: int, share: float) -> int:
    return max(1, round(number * share))
