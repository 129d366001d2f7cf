"""lmms-eval model that runs rollouts, with the benchmarks, prompts and scores of lmms-eval.

    python -m lmms_eval --model pixel_reasoner --model_args model=FOLDER_OR_HUB_ID,traces=runs/vstar/traces.jsonl --tasks vstar_bench

lmms-eval loads the rows, builds the prompts and scores the answers. It receives only the final answer, a choice as its
letter:
its regular expressions for letters expect short replies (V* parses "Based on the zoomed crop, the answer is (C)" as B).
Thoughts, calls and crops are in the traces. Extra: `lmms`.

Ignored or not supported
    max_new_tokens, until   meant for single-turn models; `max_new_tokens` in the model_args limits one turn
    positions of pictures   all pictures precede the text, in order
    assistant turns         a row with assistant turns (few-shot examples), or audio, is skipped
    other task types        likelihoods, several rounds
"""

from __future__ import annotations

import difflib
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lmms_eval.api.model import lmms
from lmms_eval.utils import simple_parse_args_string
from loguru import logger
from tqdm import tqdm

from pixel_reasoner.errors import InputError, OutputError, PixelReasonerError, UsageError
from pixel_reasoner.files import file_name
from pixel_reasoner.integrations.lmms_questions import (
    MEDIA,
    build_question,
    final_answer,
    reject_truncated_pictures,
)
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.state import collect_settings, failed_trace
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.sources.rows import RowError

MAX_NAMED_ROWS = 20
"""maximum number of failed rows in a warning"""


class TaskRow(NamedTuple):
    """Row of a task and its sampling parameters. Equal rows are asked once: greedy repeats are identical."""

    task: str
    split: str
    doc_id: int
    sampling: SamplingParams

    @property
    def id(self) -> str:
        """Return the id of the row's question.

        >>> TaskRow("vstar_bench", "test", 7, SamplingParams()).id
        'vstar_bench/test/7'
        """
        return f"{self.task}/{self.split}/{self.doc_id}"


class PixelReasoner(lmms):
    """lmms-eval model that runs rollouts with visual operations.

    Args:
        model: `tiny`, a folder or a hub id.
        operations: whether operations are available.
        batch_size: number of concurrent questions; lmms-eval passes 1 by default (`--batch_size`).
        max_turns: maximum number of model messages per question.
        max_new_tokens: maximum number of tokens per turn.
        device: default: a GPU if there is one; each of several processes uses its own.
        dialect: overrides the dialect of the model folder.
        traces: JSONL file to which every trace is appended, with pictures in the folder `media` next to it. Each of several
            processes has its own file (`traces.jsonl`, `traces-1.jsonl`, ...).
        unknown: other arguments; they are errors.

    Raises:
        UsageError: an unknown argument, or an invalid value.
        ModelError: the model cannot be loaded.
    """

    is_simple = False

    def __init__(  # noqa: PLR0913 - each is a name of `--model_args`
        self,
        model: str | GenerationModel = "tiny",
        operations: bool = True,
        batch_size: int = 16,
        max_turns: int = 6,
        max_new_tokens: int = 1024,
        device: str | None = None,
        dialect: str | None = None,
        traces: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        _reject_unknown(unknown)
        if not isinstance(operations, bool):
            raise UsageError(
                expected="operations=true or false", got=repr(operations), fix="give one of these"
            )
        self.batch_size = _count("batch_size", batch_size)
        self.config = RolloutConfig(
            operations=operations,
            limits=RolloutLimits(max_turns=_count("max_turns", max_turns)),
            sampling=SamplingParams(max_new_tokens=_count("max_new_tokens", max_new_tokens)),
        )
        self.traces = Path(traces).absolute() if traces else None
        self.device = device or _process_device()
        self.model = _load(model, self.device, dialect) if isinstance(model, str) else model

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> PixelReasoner:
        """Return the model of `--model_args`, which override options such as `--batch_size`."""
        options = {name: v for name, v in (additional_config or {}).items() if v is not None}
        options.pop(
            "max_batch_size", None
        )  # used only to search for a batch size, which is not supported
        given = {**options, **simple_parse_args_string(arg_string)}
        # lmms-eval parses a folder name such as 2026 as a number.
        names = {name: str(given[name]) for name in _TEXT_ARGS & given.keys()}
        return cls(**{**given, **names})

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the final answer to each request, in order; an empty text for no answer.

        A failed row does not stop the others; a warning names it.

        Raises:
            UsageError: tasks without messages.
            OutputError: pictures or traces cannot be written.
        """
        rows = self._rows(requests)
        waiting = {row: one for row, one in zip(rows, requests, strict=True) if row is not None}
        answers: dict[TaskRow | None, str] = {None: ""}
        problems: dict[str, str] = {}
        bar = tqdm(total=len(waiting), disable=self.rank != 0, desc="Pixel Reasoner")
        with bar, reject_truncated_pictures(), self._places() as (home, keep):
            for row, trace in self._ask(waiting, home):
                answers[row] = final_answer(trace)
                if trace.stop is StopReason.FAILED:
                    problems[row.id] = str(trace.error)
                keep(trace)
                bar.update()
        _warn(problems, len(waiting))
        return [answers[row] for row in rows]

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Raise an error: a chain of thought has no comparable likelihood.

        Raises:
            UsageError: always.
        """
        _reject("loglikelihood", requests, "use a variant of the task that generates an answer")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Raise an error: the rollout determines the turns of a question.

        Raises:
            UsageError: always.
        """
        fix = "use a variant of the task with one question per row"
        _reject("generate_until_multi_round", requests, fix)

    def _rows(self, requests: Sequence[Any]) -> list[TaskRow | None]:
        """Return the row of each request; None for padding (it gives every process the same number of requests).

        Raises:
            UsageError: requests of another format.
        """
        rows: list[TaskRow | None] = []
        repeats: Counter[tuple[str, str, int]] = Counter()
        for request in requests:
            if (request.metadata or {}).get("__padding_only__"):
                rows.append(None)
                continue
            _, messages_of, wanted, doc_id, task, split = request.args
            if not callable(messages_of):
                raise UsageError(
                    expected="tasks with messages",
                    got=f"{task} without: lmms-eval builds none for a task given as a file or folder",
                    fix="give its name to --tasks and its folder to --include_path",
                )
            place = (task, split, doc_id)
            rows.append(TaskRow(*place, self._sampling(wanted, repeats[place])))
            repeats[place] += 1
        return rows

    def _sampling(self, wanted: Mapping[str, Any], repeat: int) -> SamplingParams:
        """Return the task's sampling parameters. If the task samples, each repeat of a row gets another seed."""
        greedy = self.config.sampling
        temperature = float(wanted.get("temperature") or 0)
        if temperature <= 0 or wanted.get("do_sample") is False:
            return greedy
        top_p = float(wanted.get("top_p") or 1)
        return greedy.model_copy(
            update={"temperature": temperature, "top_p": top_p, "seed": repeat}
        )

    @contextmanager
    def _places(self) -> Iterator[tuple[Path, Callable[[Trace], None]]]:
        """Yield the folder for pictures without a file, and a function that stores or discards a trace."""
        if self.traces is None:
            with tempfile.TemporaryDirectory(prefix="pixel-reasoner-") as folder:
                home = Path(folder)
                # Delete pictures after each trace: those of some benchmarks would fill a disk.
                yield (
                    home,
                    lambda t: shutil.rmtree(home / file_name(t.question.id), ignore_errors=True),
                )
            return
        file = self.traces
        if self.rank:
            file = file.with_stem(f"{file.stem}-{self.rank}")
        with Segment(file) as log:
            yield file.parent, log.append_record

    def _ask(self, requests: Mapping[TaskRow, Any], home: Path) -> Iterator[tuple[TaskRow, Trace]]:
        """Yield traces of rows as they finish. Picture paths below `home` are relative to it."""
        by_sampling: dict[SamplingParams, dict[str, TaskRow]] = defaultdict(dict)
        for row in requests:
            by_sampling[row.sampling][row.id] = row
        for sampling, rows in by_sampling.items():
            config = self.config.model_copy(update={"sampling": sampling})
            of_rows = {row.id: requests[row] for row in rows.values()}
            for trace in self._ask_with(config, of_rows, home):
                yield rows[trace.question.id], trace

    def _ask_with(
        self, config: RolloutConfig, requests: Mapping[str, Any], home: Path
    ) -> Iterator[Trace]:
        questions: dict[str, Question] = {}
        problems: dict[str, Exception] = {}

        def readable() -> Iterator[Question]:
            for name, request in requests.items():
                try:
                    questions[name] = self._question(name, request, home)
                except OutputError:
                    raise
                except Exception as error:  # noqa: BLE001 - the code of a task may raise anything
                    problems[name] = error
                else:
                    yield with_media_root(questions[name], home)

        sample = config.sampling.seed
        for trace in ask_many(readable(), self.model, config, batch_size=self.batch_size):
            question = questions.pop(trace.question.id)
            yield trace.model_copy(update={"question": question, "sample": sample})
        settings = collect_settings(self.model, config)
        for name, problem in problems.items():
            question = Question(id=name, text=str(requests[name].args[0]), media=())
            trace = failed_trace(question, _as_input_error(problem), settings)
            yield trace.model_copy(update={"sample": sample})

    def _question(self, name: str, request: Any, home: Path) -> Question:
        _, messages_of, _, doc_id, task, split = request.args
        messages = messages_of(self.task_dict[task][split][doc_id])
        return build_question(name, messages, home, MEDIA if self.traces else file_name(name))


def _as_input_error(error: Exception) -> Exception:
    """Return an `InputError` that describes the problem of a row."""
    if isinstance(error, PixelReasonerError | RowError):
        return error
    lines = str(error).strip().splitlines() or [""]
    return InputError(
        expected="a row that its task can load",
        got=f"{type(error).__name__}: {lines[0][:300]}",
        fix="check the files of this row",
    )


def _warn(problems: Mapping[str, str], num_rows: int) -> None:
    """Log the failed rows."""
    if not problems:
        return
    named = [f"{name}: {why}" for name, why in list(problems.items())[:MAX_NAMED_ROWS]]
    if len(problems) > MAX_NAMED_ROWS:
        named.append(f"and {len(problems) - MAX_NAMED_ROWS} more")
    logger.warning(
        f"{len(problems)} of {num_rows} rows failed and have empty answers:\n" + "\n".join(named)
    )


def _reject(kind: str, requests: Sequence[Any], fix: str) -> NoReturn:
    tasks = sorted({str(request.task_name) for request in requests})
    raise UsageError(
        expected="tasks of the output_type generate_until",
        got=f"{kind} ({', '.join(tasks)})",
        fix=fix,
    )


_MODEL_ARGS = (
    "model",
    "operations",
    "batch_size",
    "max_turns",
    "max_new_tokens",
    "device",
    "dialect",
    "traces",
)

_TEXT_ARGS = frozenset({"model", "device", "dialect", "traces"})

_ALIASES = {"pretrained": "model", "model_version": "model"}
"""argument name of other lmms-eval models -> our name"""


def _reject_unknown(unknown: Mapping[str, Any]) -> None:
    for name in unknown:
        near = difflib.get_close_matches(name, _MODEL_ARGS, n=1, cutoff=0.7)
        known = _ALIASES.get(name) or next(iter(near), None)
        raise UsageError(
            expected=f"model_args among {', '.join(_MODEL_ARGS)}",
            got=name,
            fix=f"write {known}=..." if known else "leave it out",
        )


def _count(name: str, value: Any) -> int:
    """Return a count of 1 or more. lmms-eval passes arguments as text unless it parses them.

    >>> _count("batch_size", "16")
    16
    """
    try:
        count = int(str(value))
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise UsageError(
            expected=f"{name} as a whole number of 1 or more", got=repr(value), fix="give one"
        )
    return count


def _process_device() -> str | None:
    """Return the device of this process if there are several, else None. lmms-eval gathers results on it."""
    from accelerate import PartialState

    state = PartialState()
    return str(state.device) if state.num_processes > 1 else None


def _load(name: str, device: str | None, dialect: str | None) -> GenerationModel:
    from pixel_reasoner.models.local import LocalModel

    return LocalModel(name, device=device, dialect=dialect)
