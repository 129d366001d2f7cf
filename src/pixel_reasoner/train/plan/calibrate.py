"""Times and memory of a model on this machine, from models of the same width with one or two layers.

A model of one decoder layer and one vision block is timed, then models with one more layer of each kind. The
differences are the costs of a layer; the first model contains what does not depend on the depth: embeddings, output
layer, optimizer calls. Weights and tokens are random. Everything that a gradient step executes is measured: TRL's fused
output layer, frozen towers without a backward pass, LoRA, gradient checkpointing, the optimizer; and of generation the
prefill and the decode steps of the engine.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from transformers import AutoModelForImageTextToText
from trl.trainer.utils import add_fused_lm_head

from pixel_reasoner.errors import ModelError
from pixel_reasoner.files import read_json_object
from pixel_reasoner.models.engine import (
    Engine,
    ImageInput,
    Sequence as EngineSequence,
    is_supported,
    unwrap_peft,
)
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.monitor.hardware import synchronize
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import lora_config, prepare_vision

REPEATS = 4
"""the fastest counts: other programs use the machine too"""
DECODE_STEPS = 8
MEASURED_FAMILIES = ("qwen2_5_vl", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe")
"""model types whose configuration and inputs are known here"""


class Row(NamedTuple):
    """One sequence of a micro-batch."""

    tokens: int
    """with padding"""
    pictures: tuple[int, ...]
    """visual tokens of each"""
    scored: int
    """tokens at the end whose logits are computed"""


class Generation(NamedTuple):
    """One batch of rollouts."""

    prompts: int
    """different prompts"""
    rollouts: int
    prompt: Row


class Costs(NamedTuple):
    """Seconds and bytes of one model on one device."""

    update_s: float
    """forward and backward pass of a micro-batch"""
    optimizer_s: float
    """clipping, optimizer step, clearing gradients"""
    activation_bytes: float
    """peak of a forward and backward pass: activations and their gradients"""
    prefill_s: float
    """prompts of a batch of rollouts"""
    decode_s: float
    """one token of all rollouts"""

    def plus(self, other: Self, factor: float) -> Costs:
        """Return these costs and a multiple of others."""
        return Costs(*(one + factor * two for one, two in zip(self, other, strict=True)))


def measure_costs(
    run: SftRun | RlRun,
    config: Any,
    batch: Sequence[Row],
    generation: Generation | None,
    processor: Any,
) -> Costs:
    """Return the costs of a model on this machine, on its GPU if it has one.

    Args:
        run: what is trained, and how.
        config: of the model; its family is one of `MEASURED_FAMILIES`.
        batch: one micro-batch.
        generation: one batch of rollouts; None for SFT.
        processor: of the model.

    Raises:
        ModelError: a family whose inputs are unknown here.
    """
    if config.model_type not in MEASURED_FAMILIES:
        raise ModelError(
            expected=f"a model of {', '.join(MEASURED_FAMILIES)} for measurements on this machine",
            got=config.model_type,
            fix="plan for a GPU by its name: --gpu H100",
        )
    first, kinds = _shallow_configs(config)
    base = _measure(run, first, batch, generation, processor)
    total = base
    for deeper, count in kinds:
        costs = _measure(run, deeper, batch, generation, processor)
        layer = Costs(*(max(0.0, two - one) for one, two in zip(base, costs, strict=True)))
        total = total.plus(layer, count)
    return total


def _shallow_configs(config: Any) -> tuple[Any, list[tuple[Any, int]]]:
    """Return a configuration with one layer of each part, and those with one more layer and how many of it follow."""
    text, vision = config.get_text_config(), config.vision_config
    full = getattr(vision, "fullatt_block_indexes", None)
    num_full = vision.depth if full is None else len(full)
    num_windowed = vision.depth - num_full
    windowed = min(1, num_windowed)
    first = _with_layers(config, 1, windowed, 1 - windowed)
    kinds = [(_with_layers(config, 2, windowed, 1 - windowed), text.num_hidden_layers - 1)]
    if windowed:
        kinds.append((_with_layers(config, 1, 2, 0), num_windowed - 1))
        kinds.append((_with_layers(config, 1, 1, 1), num_full))
    else:
        kinds.append((_with_layers(config, 1, 0, 2), num_full - 1))
    return first, [(one, count) for one, count in kinds if count > 0]


def _with_layers(config: Any, decoder: int, windowed: int, full: int) -> Any:
    config = copy.deepcopy(config)
    text, vision = config.get_text_config(), config.vision_config
    text.num_hidden_layers = decoder
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:decoder]
    vision.depth = windowed + full
    if getattr(vision, "fullatt_block_indexes", None) is not None:
        vision.fullatt_block_indexes = list(range(windowed, windowed + full))
    if getattr(vision, "deepstack_visual_indexes", None):
        # Projectors of early layers stay as many; each needs a block.
        vision.deepstack_visual_indexes = [0]
    return config


def _measure(
    run: SftRun | RlRun,
    config: Any,
    batch: Sequence[Row],
    generation: Generation | None,
    processor: Any,
) -> Costs:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _random_model(run, config, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    prefill_s = decode_s = 0.0
    base = unwrap_peft(model)
    if generation is not None and is_supported(base):
        model.eval()
        with autocast:
            prefill_s, decode_s = _time_generation(base, generation, processor, device)
    model.train()
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    inputs = {name: one.to(device) for name, one in _inputs(config, batch).items()}
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-9, fused=True)

    def update() -> None:
        with autocast:
            loss = -model(**inputs, fused_lm_head=True).log_probs.mean()
        loss.backward()

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    if trl_config(run).gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
        if run.lora_rank:
            base.enable_input_require_grads()
    update()
    step()
    activation_bytes = _peak_bytes(update, device)
    updates, steps = [], []
    for _ in range(REPEATS):
        optimizer.zero_grad()
        updates.append(_seconds(update, device))
        steps.append(_seconds(step, device))
    return Costs(min(updates), min(steps), activation_bytes, prefill_s, decode_s)


def _random_model(run: SftRun | RlRun, config: Any, device: torch.device) -> Any:
    """Return a model with random weights, frozen and adapted like that of the run."""
    is_half = device.type == "cuda" and run.lora_rank
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=torch.bfloat16 if is_half else torch.float32
        )
    prepare_vision(model, run)
    if run.lora_rank:
        from peft import get_peft_model

        return get_peft_model(model, lora_config(run))
    return model


def _inputs(config: Any, batch: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Return the inputs of a micro-batch of random tokens and pixels."""
    vision = config.vision_config
    merge = vision.spatial_merge_size
    length = max(row.tokens for row in batch)
    vocabulary = config.get_text_config().vocab_size
    ids = torch.randint(vocabulary // 2, vocabulary, (len(batch), length))  # no special tokens
    labels = torch.full_like(ids, -100)
    grids = []
    for n, row in enumerate(batch):
        at = 1
        for tokens in row.pictures:
            height, width = _sides(tokens)
            grids.append((1, height * merge, width * merge))
            ids[n, at - 1] = config.vision_start_token_id
            ids[n, at : at + height * width] = config.image_token_id
            at += height * width + 2
        labels[n, -row.scored :] = ids[n, -row.scored :]
    mask = torch.ones_like(ids)
    mask[0, -1] = 0  # attention with a mask, as in a batch with padding
    inputs = {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == config.image_token_id).int(),
    }
    if grids:
        channels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        num_patches = sum(height * width for _, height, width in grids)
        inputs["pixel_values"] = torch.randn(num_patches, channels)
        inputs["image_grid_thw"] = torch.tensor(grids)
    return inputs


def _sides(tokens: int) -> tuple[int, int]:
    """Return height and width of a picture with about so many visual tokens."""
    height = max(1, round(tokens**0.5))
    return height, max(1, tokens // height)


def _time_generation(
    model: Any, generation: Generation, processor: Any, device: torch.device
) -> tuple[float, float]:
    """Return the seconds of the prefill of a batch of rollouts, and of one decode step."""
    prefills, decodes = [], []
    for _ in range(2):
        engine = Engine(model, processor, [-1])
        for sequence in _requests(model.config, generation, processor):
            engine.add_request(sequence)
        prefill = 0.0
        while engine.waiting:
            prefill += _seconds(engine.step, device)
        for _ in range(DECODE_STEPS):
            decodes.append(_seconds(engine.step, device))
        prefills.append(prefill)
    return min(prefills), min(decodes)


def _requests(config: Any, generation: Generation, processor: Any) -> Iterator[EngineSequence]:
    from PIL import Image

    merge = config.vision_config.spatial_merge_size
    side = merge * config.vision_config.patch_size
    for number in range(generation.rollouts):
        question = number * generation.prompts // generation.rollouts
        ids, images = [], []
        for tokens in generation.prompt.pictures:
            height, width = _sides(tokens)
            image = Image.new("RGB", (width * side, height * side), (question % 256, 8, 8))
            patches = processor.image_processor(images=[image], return_tensors="pt")
            count = int(patches["image_grid_thw"].prod()) // merge**2
            images.append(ImageInput.of(image))
            ids += [config.vision_start_token_id, *[config.image_token_id] * count]
            ids.append(config.vision_end_token_id)
        text = config.get_text_config().vocab_size - 1 - question % 100
        ids += [text] * max(1, generation.prompt.tokens - len(ids))
        yield EngineSequence(ids, tuple(images), DECODE_STEPS + 2)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - started


def _peak_bytes(update: Callable[[], None], device: torch.device) -> float:
    """Return the bytes that a forward and backward pass holds at its peak, beyond those before it.

    Activations, and the gradients of activations of the layer whose backward pass runs. Gradients of weights exist before.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        update()
        return float(torch.cuda.max_memory_allocated(device) - before)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        update()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = read_json_object(path, "the trace of a profile", "repeat the plan")["traceEvents"]
    allocations = [one for one in events if one["name"] == "[memory]"]
    allocations.sort(key=lambda one: one["ts"])
    return float(max(itertools.accumulate(one["args"]["Bytes"] for one in allocations)))
