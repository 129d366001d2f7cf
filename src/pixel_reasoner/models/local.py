"""Any transformers image-text-to-text model, from a folder or a hub id, on a CPU or a GPU.

The chat template in the model's folder renders every message; nothing here knows a model family. A folder may
hold `pixel_reasoner.json` beside the weights: the dialect the model speaks, the pixel budgets it was trained with,
and a note for whoever asks it. Without that file the dialect is that which its name, config and chat template tell.

Models of the families that `engine` knows keep what they have read: a turn after a look reads the new tokens alone. For the
others every turn reads the whole conversation again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from array import array
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    TextStreamer,
    TopPLogitsWarper,
)
from transformers.utils import logging as transformers_logging

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.template_check import assert_template_carries
from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.models.api import (
    Completion,
    ContextFull,
    Finished,
    Messages,
    OnText,
    Rounds,
    Turns,
    images_of,
)
from pixel_reasoner.models.engine import FAMILIES, Choose, Engine, Row, Seen, supported, unwrap_peft
from pixel_reasoner.models.folder import (
    BUNDLED_MODELS,
    FolderSettings,
    budgets_for_processor,
    folder_settings,
    model_folder,
    model_source,
)
from pixel_reasoner.models.patches import compile_layers, speed_up_tower
from pixel_reasoner.schema.settings import ModelInfo, SamplingParams


class LocalModel:
    """A model that runs in this process.

    Args:
        source: the name of an embedded model, a folder, or a hub id (which is the only thing ever downloaded).
        device: `cpu`, `cuda`, `cuda:1`, ...; by default a GPU if there is one.
        dtype: float32, bfloat16 or float16; by default what the weights are stored in, on a CPU that does not multiply 16 bits itself float32.
        dialect: overrides the one the folder names.
        operations: whether it will be offered operations, which its chat template must be able to carry.
        compiled: whether norms and MLPs are compiled on first use (`patches.compile_layers`).

    Raises:
        ModelError: the folder or hub id holds no usable model.
        UsageError: no dialect of that name, or two that fit; a model that cannot be compiled.
    """

    def __init__(
        self,
        source: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        dialect: str | None = None,
        operations: bool = True,
        compiled: bool = False,
    ) -> None:
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        self.name = source
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.folder: Path | None = model_folder(source)
        where = model_source(source)
        if not self.folder.is_dir():
            _check_hub_id(source)
        if dtype not in _DTYPES:
            raise UsageError(
                expected=f"--dtype {', '.join(one for one in _DTYPES if one)}",
                got=dtype,
                fix="name one of these, or leave it out",
            )
        settings = folder_settings(self.folder, dialect)
        processor = load_processor(where)
        weights = _load_weights(where, dtype or _best_dtype(self.device))
        if dtype is None and self.device == "cpu" and weights.dtype == torch.float16:
            weights = weights.float()  # no CPU multiplies that
        if not self.folder.is_dir():
            settings = folder_settings(self.folder, dialect, config=weights.config.to_dict())
        self._take(weights.to(self.device), processor, settings)
        if compiled:
            self._compile()
        if operations:
            render = partial(processor.apply_chat_template, tokenize=False)
            assert_template_carries(render, get_dialect(self.dialect), source)

    @classmethod
    def of(cls, weights: Any, processor: Any, settings: FolderSettings) -> Self:
        """Weights that are in memory already, such as those of a model in training. They are put into `eval` mode."""
        model = cls.__new__(cls)
        model.name, model.folder, model.device = "in training", None, str(weights.device)
        model._take(weights, processor, settings)
        return model

    def _take(self, weights: Any, processor: Any, settings: FolderSettings) -> None:
        self.dialect = get_dialect(settings.dialect).name
        self.budgets = budgets_for_processor(settings, processor.image_processor)
        self.note = settings.note
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.model = unwrap_peft(weights.eval())
        self._turns = Session(self) if supported(self.model) else None
        self._alone = threading.Lock()
        if self._turns is not None:
            speed_up_tower(self.model)

    def _compile(self) -> None:
        if self._turns is None:
            raise UsageError(
                expected=f"--compile with a model of the families {', '.join(FAMILIES)}",
                got=self.model.config.model_type,
                fix="leave it out",
            )
        compile_layers(self.model.model.language_model)

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """One turn for each conversation; those that no longer fit into the context are told apart."""
        if self._turns is None:
            return self._read_again(conversations, decoding, on_text)
        with self._alone:
            return self._turns.turn(conversations, decoding, on_text)

    def session(self, decoding: SamplingParams) -> Turns:
        """Turns of many conversations side by side; in rounds for a family that `engine` does not know."""
        return Rounds(self, decoding) if self._turns is None else Session(self, decoding)

    @torch.inference_mode()
    def _read_again(
        self, conversations: Sequence[Messages], decoding: SamplingParams, on_text: OnText | None
    ) -> list[Completion | ContextFull]:
        """One turn for each conversation, read from its beginning."""
        inputs = self._inputs(conversations)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        limit = self._context_limit(decoding)
        fits = [length + decoding.max_new_tokens <= limit for length in lengths]
        results: list[Completion | ContextFull] = [ContextFull(n, limit) for n in lengths]
        if not any(fits):
            return results
        if not all(fits):
            inputs = self._inputs([c for c, fit in zip(conversations, fits, strict=True) if fit])
        written = iter(self._continue(inputs, decoding, on_text))
        return [next(written) if fit else full for fit, full in zip(fits, results, strict=True)]

    def describe(self) -> ModelInfo:
        """Name, class, size, dtype, device and fingerprints of weights and chat template."""
        template = self.processor.chat_template or self.tokenizer.chat_template
        return ModelInfo(
            name=self.name,
            architecture=type(self.model).__name__,
            parameters=sum(p.numel() for p in self.model.parameters()),
            dtype=str(self.model.dtype).removeprefix("torch."),
            device=self.device,
            weights=_weights_fingerprint(self.folder) if self.folder else "",
            template=hashlib.sha256(str(template).encode()).hexdigest()[:16],
        )

    def _inputs(self, conversations: Sequence[Messages]) -> Any:
        """Token ids, masks and pixels of conversations, padded on the left."""
        texts = self.processor.apply_chat_template(
            list(conversations), tokenize=False, add_generation_prompt=True
        )
        pictures = [images_of(conversation) for conversation in conversations]
        return self.processor(
            text=texts,
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(self.device)

    def _continue(
        self, inputs: Any, decoding: SamplingParams, on_text: OnText | None
    ) -> list[Completion]:
        steer = LogitsProcessorList()
        if decoding.temperature > 0:
            steer.append(_SeededSampling(decoding, inputs["input_ids"], inputs["attention_mask"]))
        out = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            logits_processor=steer,
            streamer=_Streamer(self.tokenizer, on_text) if on_text else None,
            return_dict_in_generate=True,
            output_logits=True,
            # A folder may name other defaults; what decides a rollout is in its settings alone.
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
        )
        prompt_length = inputs["input_ids"].shape[1]
        new_ids = out.sequences[:, prompt_length:].tolist()
        logprobs = self._logprobs(out, prompt_length, decoding)
        prompt_lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return [
            self._completion(*row) for row in zip(new_ids, logprobs, prompt_lengths, strict=True)
        ]

    def _logprobs(
        self, out: Any, prompt_length: int, decoding: SamplingParams
    ) -> list[list[float]]:
        """(batch, new tokens) log-probabilities at the temperature of the decoding (1 when greedy)."""
        rows = []
        for step, logits in enumerate(out.logits):
            scaled = torch.log_softmax(logits.float() / (decoding.temperature or 1.0), dim=-1)
            chosen = out.sequences[:, prompt_length + step, None].to(scaled.device)
            rows.append(scaled.gather(1, chosen))
        return [[float(x) for x in row] for row in torch.cat(rows, dim=1).tolist()]

    def _completion(
        self, ids: list[int], logprobs: list[float], num_prompt_tokens: int
    ) -> Completion:
        end = next((i for i, token in enumerate(ids) if token in self._end_tokens()), None)
        text_ids = ids if end is None else ids[:end]
        kept = len(ids) if end is None else end + 1
        return Completion(
            text=self.tokenizer.decode(
                text_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ),
            truncated=end is None,
            token_ids=array("i", ids[:kept]),
            logprobs=array("f", logprobs[:kept]),
            num_prompt_tokens=num_prompt_tokens,
        )

    def _end_tokens(self) -> set[int]:
        end = self.model.generation_config.eos_token_id
        return {end} if isinstance(end, int) else set(end or [self.tokenizer.eos_token_id])

    def _context_limit(self, decoding: SamplingParams) -> int:
        config = self.model.config.get_text_config()
        return min(decoding.max_context_tokens, config.max_position_embeddings)


class _Told(NamedTuple):
    """A conversation up to the end of a turn, as text and as the ids that the model read and wrote.

    What a model writes is not always how its tokenizer would split the text. The next turn goes on from what was written.
    """

    text: str
    pictures: tuple[int, ...]
    ids: list[int]

    def begins(self, text: str, pictures: Sequence[Seen]) -> bool:
        """Whether a later conversation goes on from here."""
        return text.startswith(self.text) and self.pictures == tuple(
            seen.key for seen in pictures[: len(self.pictures)]
        )


class Session:
    """Turns of conversations whose tokens, once read, stay read.

    `add` and `done` keep many conversations moving: while one waits for its operation, the others go on. `turn` is one turn for
    each of some conversations.
    """

    def __init__(self, model: LocalModel, decoding: SamplingParams | None = None) -> None:
        self.model = model
        self.decoding = decoding or SamplingParams()
        # A GPU goes on while pictures are opened. On a CPU both are done sooner one after the other.
        self.fill, self.room = (1.0, 0.25) if model.model.device.type == "cpu" else (0.5, 0.0)
        image_processor = model.processor.image_processor
        self.engine = Engine(model.model, image_processor, sorted(model._end_tokens()))
        self._told: dict[Any, _Told] = {}
        self._rows: dict[Any, Row] = {}
        self._full: deque[tuple[Any, ContextFull]] = deque()
        self._seconds: dict[Any, float] = {}

    def add(self, key: Any, conversation: Messages) -> None:
        """Ask for the next turn of a conversation; `key` names it from turn to turn."""
        row = self._row(key, conversation, [self._told.get(key)])
        if isinstance(row, ContextFull):
            self._full.append((key, row))
            return
        self._seconds[key] = 0.0
        self.engine.add(row)

    def done(self) -> list[Finished]:
        """The turns that are finished next, at least one, with each one's share of the seconds that they took."""
        finished: list[Finished] = []
        while self._full:
            finished.append((*self._full.popleft(), 0.0))
        choose = _chooser(self.decoding)
        while not finished:
            started = time.perf_counter()
            rows = self.engine.step(choose)
            share = (time.perf_counter() - started) / max(1, len(self._seconds))
            for key in self._seconds:
                self._seconds[key] += share
            finished += [(row.key, self._told_of(row), self._seconds.pop(row.key)) for row in rows]
        return finished

    def end(self, key: Any) -> None:
        """A conversation is over."""
        self._told.pop(key, None)
        row = self._rows.pop(key, None)
        if row is not None:
            self.engine.forget(row)

    def turn(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """One turn for each conversation. Only those of the last call are remembered."""
        self.decoding = decoding
        before, self._told, self._rows = list(self._told.values()), {}, {}
        results = [self._row(n, one, before) for n, one in enumerate(conversations)]
        rows = [result for result in results if isinstance(result, Row)]
        choose = _chooser(decoding)
        if on_text is None:
            self.engine.run(rows, choose)
        else:
            assert len(conversations) == 1, "text of one conversation is streamed"
            streamer = _Streamer(self.model.tokenizer, on_text)
            self.engine.run(rows, _streamed(choose, streamer))
            streamer.end()
        return [self._told_of(one) if isinstance(one, Row) else one for one in results]

    def _row(
        self, key: Any, conversation: Messages, before: Sequence[_Told | None]
    ) -> Row | ContextFull:
        text = self.model.processor.apply_chat_template(
            [conversation], tokenize=False, add_generation_prompt=True
        )[0]
        pictures = tuple(map(Seen.of, images_of(conversation)))
        told = next((one for one in before if one is not None and one.begins(text, pictures)), None)
        told = told or _Told("", (), [])
        rest = self.model.tokenizer(text[len(told.text) :], add_special_tokens=False)["input_ids"]
        ids = told.ids + self._shown(rest, pictures[len(told.pictures) :])
        limit, most = self.model._context_limit(self.decoding), self.decoding.max_new_tokens
        if len(ids) + most > limit:
            return ContextFull(len(ids), limit)
        row = Row(ids, pictures, most, key=key)
        row.draws = _generator(self.decoding, ids) if self.decoding.temperature > 0 else None
        self._told[key] = _Told(
            text, tuple(seen.key for seen in pictures), []
        )  # until its turn is written
        self._rows[key] = row
        return row

    def _shown(self, ids: Sequence[int], pictures: Sequence[Seen]) -> list[int]:
        """Ids in which the placeholder of each picture stands as often as the picture has visual tokens.

        The processor writes them into the text, where a tokenizer has to find a thousand of them for each picture.
        """
        image_processor, placeholder = self.engine.image_processor, self.engine.placeholder
        count = sum(token == placeholder for token in ids)
        assert count == len(pictures), f"{count} placeholders for {len(pictures)} pictures"
        left, written = iter(pictures), list[int]()
        for token in ids:
            if token != placeholder:
                written.append(token)
                continue
            image = next(left).image
            patches = image_processor.get_number_of_image_patches(image.height, image.width)
            written += [token] * (patches // image_processor.merge_size**2)
        return written

    def _told_of(self, row: Row) -> Completion:
        said = self.model._completion(row.new_ids, row.logprobs, row.num_prompt)
        ids = row.ids if said.truncated else row.ids[:-1]  # the template writes what ends a turn
        before = self._told[row.key]
        self._told[row.key] = _Told(before.text + said.text, before.pictures, ids)
        return said


def _generator(decoding: SamplingParams, ids: Sequence[int]) -> torch.Generator:
    """Random numbers of one turn, which depend on the seed and on what was said, and not on what else is in the batch."""
    told = f"{decoding.seed}:{list(ids)}".encode()
    seed = int.from_bytes(hashlib.sha256(told).digest()[:7], "big")
    return torch.Generator().manual_seed(seed)


def _gumbel(scores: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Scores and noise of which the largest is a draw from their softmax; each row has noise of its own."""
    uniform = [torch.rand(scores.shape[1], generator=one) for one in generators]
    noise = -torch.log(-torch.log(torch.stack(uniform).clamp(1e-20, 1 - 1e-7)))
    return scores + noise.to(scores.device)


def _chooser(decoding: SamplingParams) -> Choose:
    top_p = TopPLogitsWarper(decoding.top_p) if decoding.top_p < 1 else None

    def choose(logits: torch.Tensor, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        scores = logits.float() / (decoding.temperature or 1.0)
        told = torch.log_softmax(scores, dim=-1)
        if decoding.temperature > 0:
            scores = scores if top_p is None else top_p(None, scores)
            scores = _gumbel(scores, [row.draws for row in rows])
        ids = scores.argmax(dim=-1)
        return ids, told.gather(1, ids[:, None])[:, 0]

    return choose


def _streamed(choose: Choose, streamer: _Streamer) -> Choose:
    """Hand each token on as it is chosen."""
    streamer.put(torch.zeros(1, 1, dtype=torch.long))  # in place of the prompt

    def choose_and_tell(logits: torch.Tensor, rows: Sequence[Row]) -> Any:
        ids, logprobs = choose(logits, rows)
        streamer.put(ids.cpu())
        return ids, logprobs

    return choose_and_tell


class _SeededSampling(LogitsProcessor):
    """Sampling that does not depend on what else is in the batch, for `generate` of transformers."""

    def __init__(self, decoding: SamplingParams, ids: torch.Tensor, mask: torch.Tensor) -> None:
        self.temperature = decoding.temperature
        self.top_p = TopPLogitsWarper(decoding.top_p) if decoding.top_p < 1 else None
        self.generators = [
            _generator(decoding, row[keep].tolist())
            for row, keep in zip(ids.cpu(), mask.cpu().bool(), strict=True)
        ]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        scores = scores.float() / self.temperature
        if self.top_p is not None:
            scores = self.top_p(input_ids, scores)
        return _gumbel(scores, self.generators)


class _Streamer(TextStreamer):
    """Hands text on as it is generated."""

    def __init__(self, tokenizer: Any, on_text: OnText) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self.on_text(text)


def _check_hub_id(source: str) -> None:
    """Only something shaped like `owner/name` is ever looked up on the hub."""
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise ModelError(
            expected=f"an embedded model ({', '.join(BUNDLED_MODELS)}), a model folder, or a hub id owner/name",
            got=f"{source!r}, which is no folder",
            fix="check the path",
        )


def load_processor(where: str) -> Any:
    """The processor of a folder or hub id: tokenizer, image processor and chat template.

    Raises:
        ModelError: there is none, or not all three.
    """
    try:
        processor = AutoProcessor.from_pretrained(where)
    except Exception as error:
        raise _unusable(where, "processor and tokenizer files", error) from error
    if getattr(processor, "image_processor", None) is None:
        raise _unusable(where, "an image processor", "text files only")
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise _unusable(where, "a chat template (chat_template.jinja)", "none")
    return processor


_DTYPES = (None, "float32", "bfloat16", "float16")


def _best_dtype(device: str) -> str:
    """How weights are kept: as they are stored where the processor multiplies that."""
    if torch.device(device).type != "cpu" or _multiplies_16_bits():
        return "auto"
    return "float32"


def _multiplies_16_bits() -> bool:
    """Whether this CPU has instructions for bfloat16 (AVX512-BF16, AMX): prompts are then read twice as fast and more."""
    has = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in has)


def _load_weights(where: str, dtype: str) -> Any:
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            where, dtype=dtype, output_loading_info=True
        )
    except Exception as error:
        raise _unusable(where, "config.json and weights (model.safetensors)", error) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise _unusable(where, "complete weights", f"{len(missing)} missing, such as {missing[0]}")
    return model


def _unusable(where: str, what: str, why: object) -> ModelError:
    lines = str(why).strip().splitlines() or [type(why).__name__]
    return ModelError(
        expected=f"a model folder or hub id with {what}",
        got=f"{where}: {lines[0][:300]}",
        fix="copy the whole folder of an image-text-to-text model, or name another",
    )


def _weights_fingerprint(folder: Path) -> str:
    """A hash of names, sizes and both ends of the weight files: cheap for any size, and told apart in practice."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:16]
