"""Phase 1: warm-start instruction tuning on expert traces, with TRL's `SFTTrainer`.

This project computes the loss mask (`data.encode.encode`) and validates the model during training. Everything else,
from LoRA
to many GPUs, is TRL and accelerate:

    pixel-reasoner train sft run.toml
    torchrun --nproc_per_node gpu -m pixel_reasoner.cli train sft run.toml    # all GPUs of a machine; `sharding` in the run
    torchrun --nproc_per_node 2 -m pixel_reasoner.cli train sft run.toml      # also CPU processes

Departures from the upstream code: every assistant turn is trained, except mistakes; batch size, learning rate and
warm-up
default to the paper's values (128, 1e-6, 10 %) instead of the script's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value
from transformers import TrainerCallback
from trl import SFTTrainer
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from pixel_reasoner.data.encode import encode
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.template_check import assert_template_keeps_thoughts
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.run import TRACES
from pixel_reasoner.files import TEMPORARY_PREFIX, atomic_path
from pixel_reasoner.models.folder import FolderSettings, check_trained_world
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.models.patches import without_unused_logit_scale
from pixel_reasoner.models.processor_inputs import ProcessorInputs
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.pixelworld2 import world_of_question
from pixel_reasoner.strict_json import parse_json
from pixel_reasoner.train.callbacks import (
    LogCallback,
    ValidationCallback,
    quiet_libraries,
    show_one_progress_line,
)
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.folder import CheckpointErrorsMixin, training_folder
from pixel_reasoner.train.model_card import ModelCardMixin
from pixel_reasoner.train.monitor.throughput import ThroughputMixin
from pixel_reasoner.train.sharding.blank_pictures import NEEDS_BLANK, BlankPicture
from pixel_reasoner.train.sharding.check import ShardingCallback
from pixel_reasoner.train.sharding.processes import check_processes
from pixel_reasoner.train.sharding.setup import (
    ShardedHeadMixin,
    set_wrapped_classes,
    start_processes,
)
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.weights import load_weights, lora_config, train_and_save

IGNORE = -100
"""label of a token without loss"""


class TraceTrainer(
    ShardedHeadMixin, ThroughputMixin, CheckpointErrorsMixin, ModelCardMixin, SFTTrainer
):
    """`SFTTrainer` with a reference to its run, metrics of every step, and one error for a failed checkpoint."""

    def __init__(self, *, run: SftRun, **trl: Any) -> None:
        self.run = run
        with without_unused_logit_scale(trl["model"].config):
            super().__init__(**trl)


def train_sft(run: SftRun) -> Path:
    """Train, or resume a stopped run, and return the folder of the model.

    Raises:
        UsageError: unknown or inconsistent options, or a folder with another run.
        InputError: traces that cannot be read.
        ModelError: a model that cannot be loaded.
    """
    quiet_libraries()
    start_processes(run)
    args = trl_config(run)
    check_processes(run, args)
    # Wrong paths are reported before the settings of an existing folder are compared.
    with args.main_process_first():
        source = str(local_model(run.model))
    train, settings = trace_dataset(run.traces)
    for world in settings.worlds:
        check_trained_world(run.model, world)
    evaluation = trace_dataset(run.eval_traces)[0] if run.eval_traces else None
    with training_folder(run, args) as out:
        trainer, processor = _build_trainer(run, args, source, (train, evaluation), settings)
        return train_and_save(trainer, run, processor, settings, out)


class TokenCountCallback(TrainerCallback):
    """Restores the count of trained tokens in a resumed run: TRL logs it but does not save it."""

    def __init__(self, trainer: TraceTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue from the last logged count."""
        counts = [int(row["num_tokens"]) for row in state.log_history if "num_tokens" in row]
        self.trainer._total_train_tokens = counts[-1] if counts else 0


def _build_trainer(
    run: SftRun,
    args: Any,
    source: str,
    data: tuple[Dataset, Dataset | None],
    settings: FolderSettings,
) -> tuple[TraceTrainer, Any]:
    """Return the trainer of a run and its processor.

    Args:
        run: settings.
        args: TRL's configuration of the run.
        source: folder of the model.
        data: traces for training and for evaluation.
        settings: model settings of the traces.
    """
    train, evaluation = data
    processor = load_processor(source)
    _check_pad_token(args.pad_token, processor)
    use_training_template(processor)
    render = partial(processor.apply_chat_template, tokenize=False)
    assert_template_keeps_thoughts(render, get_dialect(settings.dialect), source)
    collator = TraceCollator(
        processor,
        mask=run.mask,
        train_thoughts_before_mistakes=run.train_thoughts_before_mistakes,
        add_blank=run.sharding in NEEDS_BLANK,
    )
    if run.prepare:
        folder = Path(run.out) / "prepared"
        decisive = [run.model, run.train_thoughts_before_mistakes]
        with args.main_process_first():
            train = prepare(train, collator, folder / "train.arrow", decisive)
            evaluation = evaluation and prepare(
                evaluation, collator, folder / "eval.arrow", decisive
            )
    model = load_weights(source, run, bf16=args.bf16)
    set_wrapped_classes(args, model)
    trainer = TraceTrainer(
        run=run,
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=collator,
        processing_class=processor,
        peft_config=lora_config(run),
    )
    # By default TRL averages per micro-batch for these models, which gives short traces more weight. With token
    # counting enabled
    # it divides by the trained tokens of all micro-batches and processes.
    trainer.model_accepts_loss_kwargs = True
    show_one_progress_line(trainer)
    trainer.add_callback(TokenCountCallback(trainer))
    trainer.add_callback(ShardingCallback(run, trainer))
    trainer.add_callback(LogCallback(Path(run.out)))
    if run.ask_count:
        trainer.add_callback(ValidationCallback(run, processor, settings, trainer))
    return trainer, processor


def use_training_template(processor: Any) -> None:
    """Replace a chat template by TRL's version for training, which marks the turns, if there is one.

    Without a version for training, `data.turn_mask` finds the turns.
    """
    template = processor.chat_template
    # TRL raises any error for a template that it does not know, because it first renders a call with it.
    with suppress(Exception):
        if not has_generation_markers(template):
            processor.chat_template = get_training_chat_template(processor) or template


def _check_pad_token(token: str | None, processor: Any) -> None:
    """Raise `UsageError` if the tokenizer does not contain the given token."""
    if token is not None and token not in processor.tokenizer.get_vocab():
        raise UsageError(
            expected="pad_token under [trl] from the vocabulary of the model",
            got=repr(token),
            fix="remove it: by default, the end token pads",
        )


def trace_dataset(sources: Sequence[str]) -> tuple[Dataset, FolderSettings]:
    """Return the traces of files as byte offsets: a million traces take megabytes.

    Returns:
        rows of `path`, `offset` and an empty `images` (TRL uses it to recognise a vision data set), and the dialect and
        budgets
         of the traces.

    Raises:
        InputError: no traces, or traces written for different models.
    """
    paths, offsets = [], []
    found: dict[str, str] = {}
    worlds = set[int | None]()
    for source in sources:
        path = Path(source) / TRACES if Path(source).is_dir() else Path(source)
        try:
            with path.open("rb") as file:
                start = 0
                for line in file:
                    if not start:
                        first = _first_trace(line, path)
                        found[json.dumps(_model_settings(first))] = str(path)
                        worlds.add(world_of_question(first.question.id))
                    paths.append(str(path))
                    offsets.append(start)
                    start += len(line)
        except OSError as error:
            raise InputError(
                expected="traces written by `pixel-reasoner synth`",
                got=f"{path}: {error.strerror}",
                fix="give the folder or the traces.jsonl",
            ) from error
    if len(found) != 1:
        raise InputError(
            expected="traces for one model",
            got=f"{len(found)} kinds, in {', '.join(found.values()) or 'no file'}",
            fix="write them all with the same --model",
        )
    rows = {"path": paths, "offset": offsets, "images": [[] for _ in paths]}
    # Own rows have no world, so they may be mixed with scenes of any.
    known = tuple(sorted(world for world in worlds if world is not None))
    settings = FolderSettings(**json.loads(next(iter(found))), worlds=known)
    return Dataset.from_dict(rows), settings


def _first_trace(line: bytes, path: Path) -> Trace:
    """Return the trace in the first line of a file.

    Raises:
        InputError: it is something else. Own rows are recognised.
    """
    try:
        return Trace.from_line(line.decode())
    except (InputError, UnicodeDecodeError) as error:
        got, fix = f"{path}, line 1: {error}", "give the folder of `pixel-reasoner synth`"
        with suppress(ValueError):
            row = parse_json(line)
            if isinstance(row, dict) and isinstance(row.get("question", row.get("text")), str):
                got = f"{path}, which has own rows (questions)"
                fix = (
                    f"run `pixel-reasoner synth jsonl --data {path} --out DIR` first, and give DIR"
                )
        raise InputError(
            expected="traces written by `pixel-reasoner synth`", got=got, fix=fix
        ) from error


def _model_settings(trace: Trace) -> dict[str, Any]:
    """Return dialect and budgets of a trace."""
    settings = trace.settings
    budgets = settings.budgets.model_dump(mode="json") if settings.budgets else None
    return {"dialect": settings.dialect, "budgets": budgets}


def read_trace(path: str, offset: int) -> Trace:
    """Return the trace that starts at a byte of a file, media paths relative to the folder of the file."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        trace = Trace.from_line(file.readline().decode())
    return trace.model_copy(update={"question": with_media_root(trace.question, Path(path).parent)})


class TraceCollator:
    """Collator of traces. Pictures, clips and text may be mixed.

    Padding is on the right. Labels are the ids of trained tokens, and `IGNORE` for other tokens.

    Args:
        processor: processor of the model.
        mask: False: the loss covers every token.
        train_thoughts_before_mistakes: same as in `encode`.
        add_blank: whether a batch without pictures gets a blank one (`blank_pictures`).
    """

    def __init__(
        self,
        processor: Any,
        *,
        mask: bool = True,
        train_thoughts_before_mistakes: bool = True,
        add_blank: bool = False,
    ) -> None:
        self.processor, self.inputs = processor, ProcessorInputs(processor)
        self.mask = mask
        self.train_thoughts = train_thoughts_before_mistakes
        self.blank = BlankPicture(processor) if add_blank else None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return (batch, tokens) ids, mask and labels, and the pixels of all pictures in order."""
        prepared = [
            row if "input_ids" in row else self.prepare_trace(read_trace(**_place(row)))
            for row in rows
        ]
        length = max(len(row["input_ids"]) for row in prepared)
        pad = self.processor.tokenizer.pad_token_id
        batch = {
            "input_ids": _padded([row["input_ids"] for row in prepared], length, pad),
            "attention_mask": _padded([[1] * len(row["input_ids"]) for row in prepared], length, 0),
            "labels": _padded([self._labels(row) for row in prepared], length, IGNORE),
        }
        for name in prepared[0].keys() - {
            "input_ids",
            "trained",
            "images",
        }:  # per-token inputs
            batch[name] = _padded([row[name] for row in prepared], length, 0)
        pictures = [row["images"] for row in prepared]
        if any(pictures):
            batch |= self.inputs.picture_tensors(pictures)
        elif self.blank is not None:
            fills = {"input_ids": pad, "labels": IGNORE}
            batch = self.blank.append(
                batch, fills, ["input_ids", *sorted(batch.keys() - {"input_ids"})]
            )
        return batch

    def prepare_trace(self, trace: Trace) -> dict[str, Any]:
        """Return a trace with resized pictures and tokenized text.

        Returns:
            `input_ids`, `trained`, other per-token inputs, and `images`.
        """
        encoded = encode(trace, self.processor, train_thoughts_before_mistakes=self.train_thoughts)
        shape = (1, len(encoded.token_ids))
        per_token = {
            name: tensor[0].tolist()
            for name, tensor in encoded.inputs.items()
            if tensor.shape == shape and name not in ("input_ids", "attention_mask")
        }
        return {
            "input_ids": encoded.token_ids,
            "trained": encoded.trained,
            "images": encoded.pictures,
            **per_token,
        }

    def _labels(self, row: dict[str, Any]) -> list[int]:
        return [
            token if trained or not self.mask else IGNORE
            for token, trained in zip(row["input_ids"], row["trained"], strict=True)
        ]


def prepare(
    rows: Dataset, collator: TraceCollator, path: Path, decisive: Sequence[Any] = ()
) -> Dataset:
    """Return all traces prepared for the collator, in a file that is created once for all epochs.

    The file name contains a hash of the sizes and times of the trace files, so that changed traces are prepared again.

    Args:
        rows: result of `trace_dataset`.
        collator: prepares the traces.
        path: path of the file, without the hash.
        decisive: other values that determine the content: model and options, as JSON values.

    Raises:
        OutputError: the file cannot be written.
    """
    states = {name: Path(name).stat() for name in sorted(set(rows["path"]))}
    versions = [(name, state.st_size, state.st_mtime_ns) for name, state in states.items()]
    digest = hashlib.sha256(json.dumps([versions, *decisive]).encode()).hexdigest()[:16]
    path = path.with_stem(f"{path.stem}-{digest}")
    if not path.exists():
        # The library writes next to the file it is given, under names that a kill would leave behind.
        with (
            atomic_path(path) as part,
            TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=part.parent) as at,
        ):
            _write_prepared(rows, collator, Path(at) / "traces.arrow").replace(part)
    return Dataset.from_file(str(path))


def _write_prepared(rows: Dataset, collator: TraceCollator, path: Path) -> Path:
    numbers = collator.prepare_trace(read_trace(**_place(rows[0]))).keys() - {"trained", "images"}
    features = Features(
        {name: List(Value("int32")) for name in sorted(numbers)}
        | {"trained": List(Value("bool")), "images": List(Image())}
    )
    rows.map(
        lambda row: collator.prepare_trace(read_trace(**_place(row))),
        features=features,
        remove_columns=[name for name in rows.column_names if name not in features],
        cache_file_name=str(path),
        writer_batch_size=32,
        desc="preparing traces",
    )
    return path


def _place(row: dict[str, Any]) -> dict[str, Any]:
    return {"path": row["path"], "offset": row["offset"]}


def _padded(rows: list[list[int]], length: int, fill: int) -> torch.Tensor:
    return torch.tensor([row + [fill] * (length - len(row)) for row in rows])
