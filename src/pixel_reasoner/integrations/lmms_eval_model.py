"""Our loop as a model of lmms-eval, for its benchmarks, prompts and scores.

    python -m lmms_eval --model pixel_reasoner --model_args model=FOLDER_OR_HUB_ID,traces=runs/vstar/traces.jsonl --tasks vstar_bench

lmms-eval reads the rows, words the questions and scores the answers. What it gets is the final answer alone, a choice as its letter:
the expressions by which it finds a letter are made for short replies ("Based on the zoomed crop, the answer is (C)" is B to its V*).
Thoughts, looks and crops are in the traces. Extra: `lmms`.

What is not taken from a task
    max_new_tokens, until   they are for models that answer at once; a turn of ours has the `max_new_tokens` of the model_args
    places of pictures      all stand before the text, in their order
    turns of an assistant   a row that has some (few-shot examples) is not asked; nor is one with audio
    other kinds of tasks    likelihoods, several rounds
"""

from __future__ import annotations

import difflib
import io
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from lmms_eval.utils import simple_parse_args_string
from loguru import logger
from PIL import Image, ImageFile
from tqdm import tqdm

from pixel_reasoner.errors import InputError, OutputError, PixelReasonerError, UsageError
from pixel_reasoner.evals.readers import image, saved, saved_cell
from pixel_reasoner.models.api import Model as OurModel
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.state import failed_trace, settings_of
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.extraction import answer_of
from pixel_reasoner.scoring.grading import option_meant
from pixel_reasoner.scoring.numbers import unwrapped
from pixel_reasoner.sources.rows import RowError

NAMED = 20
"""rows that a warning names"""

MEDIA = "media"
"""the folder of pictures beside the traces"""


class Row(NamedTuple):
    """A row of a task, and how it is to be answered. Equal rows are asked once: greedy repeats are all the same."""

    task: str
    split: str
    doc_id: int
    decoding: SamplingParams

    @property
    def id(self) -> str:
        """The id of its question.

        >>> Row("vstar_bench", "test", 7, SamplingParams()).id
        'vstar_bench/test/7'
        """
        return f"{self.task}/{self.split}/{self.doc_id}"


class PixelReasoner(lmms):
    """A model of lmms-eval that looks again.

    Args:
        model: ours: `tiny`, a folder or a hub id.
        operations: whether our loop offers them.
        batch_size: questions that move together; lmms-eval says 1 unless it is told (`--batch_size`).
        max_turns: messages of the model to a question.
        max_new_tokens: of a turn.
        device: by default a GPU if there is one; of several processes each takes its own.
        dialect: overrides the one that the model's folder names.
        traces: a JSONL file to which every trace is appended, with pictures beside it in `media`. Of several processes each has a file
            (`traces.jsonl`, `traces-1.jsonl`, ...).
        unknown: there is nothing else.

    Raises:
        UsageError: an unknown argument, or a value that does not fit.
        ModelError: no model that can be used.
    """

    is_simple = False

    def __init__(  # noqa: PLR0913 - each is a name of `--model_args`
        self,
        model: str | OurModel = "tiny",
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
        _none_unknown(unknown)
        if not isinstance(operations, bool):
            raise UsageError(
                expected="operations=true or false", got=repr(operations), fix="give one of these"
            )
        self.batch_size = _count("batch_size", batch_size)
        self.rules = RolloutConfig(
            operations=operations,
            limits=RolloutLimits(max_turns=_count("max_turns", max_turns)),
            sampling=SamplingParams(max_new_tokens=_count("max_new_tokens", max_new_tokens)),
        )
        self.traces = Path(traces).absolute() if traces else None
        self.device = device or _of_this_process()
        self.model = _loaded(model, self.device, dialect) if isinstance(model, str) else model

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> PixelReasoner:
        """A model of `--model_args`. Where an option such as `--batch_size` says otherwise, the model_args count."""
        options = {name: v for name, v in (additional_config or {}).items() if v is not None}
        options.pop("max_batch_size", None)  # of a search for one, which there is not
        given = {**options, **simple_parse_args_string(arg_string)}
        # A folder may be called 2026, which lmms-eval reads as a number.
        names = {name: str(given[name]) for name in _TEXTS & given.keys()}
        return cls(**{**given, **names})

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The final answers to requests, in their order; an empty text where there is none.

        A row that cannot be asked does not stop the others; a warning names it.

        Raises:
            UsageError: tasks that were read in a way that gives a model no messages.
            OutputError: pictures or traces cannot be written.
        """
        rows = self._rows(requests)
        waiting = {row: one for row, one in zip(rows, requests, strict=True) if row is not None}
        answers: dict[Row | None, str] = {None: ""}
        problems: dict[str, str] = {}
        bar = tqdm(total=len(waiting), disable=self.rank != 0, desc="Pixel Reasoner")
        with bar, _whole_pictures(), self._places() as (home, keep):
            for row, trace in self._ask(waiting, home):
                answers[row] = final_answer(trace)
                if trace.stop is StopReason.FAILED:
                    problems[row.id] = str(trace.error)
                keep(trace)
                bar.update()
        _warn(problems, len(waiting))
        return [answers[row] for row in rows]

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """A chain of thought has no likelihood to compare.

        Raises:
            UsageError: always.
        """
        _refuse("loglikelihood", requests, "ask for a variant of the task that generates an answer")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """The rounds of a question are our loop's own.

        Raises:
            UsageError: always.
        """
        fix = "ask for a variant of the task with one question a row"
        _refuse("generate_until_multi_round", requests, fix)

    def _rows(self, requests: Sequence[Any]) -> list[Row | None]:
        """What each request asks; None for what lmms-eval adds to give every process as many.

        Raises:
            UsageError: requests of another shape.
        """
        rows: list[Row | None] = []
        asked: Counter[tuple[str, str, int]] = Counter()
        for request in requests:
            if (request.metadata or {}).get("__padding_only__"):
                rows.append(None)
                continue
            _, messages_of, wanted, doc_id, task, split = request.args
            if not callable(messages_of):
                raise UsageError(
                    expected="tasks with messages",
                    got=f"{task} without: lmms-eval builds none for a task that is given as a file or folder",
                    fix="give its name to --tasks and its folder to --include_path",
                )
            place = (task, split, doc_id)
            rows.append(Row(*place, self._decoding(wanted, asked[place])))
            asked[place] += 1
        return rows

    def _decoding(self, wanted: Mapping[str, Any], repeat: int) -> SamplingParams:
        """Sampling where a task asks for it, from another seed for every repeat of a row."""
        decoding = self.rules.sampling
        temperature = float(wanted.get("temperature") or 0)
        if temperature <= 0 or wanted.get("do_sample") is False:
            return decoding
        top_p = float(wanted.get("top_p") or 1)
        sampling = {"temperature": temperature, "top_p": top_p, "seed": repeat}
        return decoding.model_copy(update=sampling)

    @contextmanager
    def _places(self) -> Iterator[tuple[Path, Callable[[Trace], None]]]:
        """The folder of pictures that have no file, and what becomes of a trace."""
        if self.traces is None:
            with tempfile.TemporaryDirectory(prefix="pixel-reasoner-") as folder:
                home = Path(folder)
                # At once: the pictures of some benchmarks fill a disk.
                yield home, lambda t: shutil.rmtree(home / t.question.id, ignore_errors=True)
            return
        file = self.traces
        if self.rank:
            file = file.with_stem(f"{file.stem}-{self.rank}")
        with Segment(file) as log:
            yield file.parent, log.append_record

    def _ask(self, requests: Mapping[Row, Any], home: Path) -> Iterator[tuple[Row, Trace]]:
        """The traces of rows as they finish; paths of pictures that lie below `home` are relative to it."""
        alike: dict[SamplingParams, dict[str, Row]] = defaultdict(dict)
        for row in requests:
            alike[row.decoding][row.id] = row
        for decoding, rows in alike.items():
            rules = self.rules.model_copy(update={"sampling": decoding})
            asked = {row.id: requests[row] for row in rows.values()}
            for trace in self._ask_alike(asked, rules, home):
                yield rows[trace.question.id], trace

    def _ask_alike(
        self, requests: Mapping[str, Any], rules: RolloutConfig, home: Path
    ) -> Iterator[Trace]:
        questions: dict[str, Question] = {}
        problems: dict[str, Exception] = {}

        def readable() -> Iterator[Question]:
            for name, request in requests.items():
                try:
                    questions[name] = self._question(name, request, home)
                except OutputError:
                    raise
                except Exception as error:  # noqa: BLE001 - others wrote what reads and words a row
                    problems[name] = error
                else:
                    yield with_media_root(questions[name], home)

        sample = rules.sampling.seed
        for trace in ask_many(readable(), self.model, rules, batch_size=self.batch_size):
            told = {"question": questions.pop(trace.question.id), "sample": sample}
            yield trace.model_copy(update=told)
        settings = settings_of(self.model, rules)
        for name, problem in problems.items():
            question = Question(id=name, text=str(requests[name].args[0]), media=())
            trace = failed_trace(question, _of_ours(problem), settings)
            yield trace.model_copy(update={"sample": sample})

    def _question(self, name: str, request: Any, home: Path) -> Question:
        _, messages_of, _, doc_id, task, split = request.args
        messages = messages_of(self.task_dict[task][split][doc_id])
        return question_of(name, messages, home, MEDIA if self.traces else name)


def question_of(
    name: str, messages: Sequence[Mapping[str, Any]], home: Path, media: str = MEDIA
) -> Question:
    r"""The messages of a row as a question.

    Args:
        name: its id.
        messages: as a task makes them.
        home: the folder that paths are relative to.
        media: the folder in it for pictures that have no file.

    Raises:
        InputError: messages that cannot be asked.
        OutputError: pictures cannot be written.

    >>> told = [{"role": "user", "content": [{"type": "text", "text": "Which?\n(A) red\n(B) blue"}]}]
    >>> asked = question_of("1", told, Path())
    >>> asked.text.splitlines()[0], asked.options
    ('Which?', {'A': 'red', 'B': 'blue'})
    """
    texts: list[str] = []
    shown: list[MediaItem] = []
    for message in ChatMessages(messages=messages).messages:
        if message.role == "assistant":
            raise InputError(
                expected="a question", got="turns of an assistant", fix="use --num_fewshot 0"
            )
        for part in message.content:
            if part.type == "text":
                texts.append(part.text)
            else:
                shown.append(_medium(part, home, media))
    text = "\n".join(texts).strip()
    options = options_in(text)
    return Question(
        id=name,
        text=text,
        media=tuple(shown),
        answer_type=AnswerType.CHOICE if options else AnswerType.TEXT,
        options=options,
    )


def _medium(part: Any, home: Path, media: str) -> MediaItem:
    """A picture or video of a message: the file it has, or else one below `home`."""
    if part.type == "image":
        return _picture(part.url, home, media)
    if part.type != "video":
        raise InputError(expected="pictures, videos and text", got=part.type, fix="leave it out")
    told = {"path": part.url, "video_start": part.start_time, "video_end": part.end_time}
    if isinstance(part.url, dict):
        told = {"path": part.url.get("url"), **part.url}
    path = _path(told["path"])
    return MediaItem(
        kind="frames" if path.is_dir() else "video",
        path=str(path),
        start_s=told.get("video_start") or 0.0,
        end_s=told.get("video_end"),
    )


def _picture(url: Any, home: Path, media: str) -> MediaItem:
    if isinstance(url, str) and not url.startswith("data:"):
        return image(_path(url))
    folder = home / media
    written = saved(_png(url), folder) if isinstance(url, Image.Image) else saved_cell(url, folder)
    return image(Path(written.path).relative_to(home))


def _path(url: Any) -> Path:
    if not isinstance(url, str | Path):
        raise InputError(
            expected="a path or a picture of Pillow", got=type(url).__name__, fix="give one"
        )
    return Path(str(url).removeprefix("file://")).absolute()


@contextmanager
def _whole_pictures() -> Iterator[None]:
    """Half a picture is none. lmms-eval has Pillow fill it up with grey, in all of the process."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


_PNG_MODES = frozenset({"1", "L", "LA", "P", "I", "I;16", "RGB", "RGBA"})


def _png(picture: Image.Image) -> bytes:
    """The pixels as they are: lossless, and written fast rather than small."""
    if picture.mode not in _PNG_MODES:
        picture = picture.convert("RGB")
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)
    return content.getvalue()


_OPTION = re.compile(r"(?:^[ \t]*\(?([A-J])[).:]|\(([A-J])\))[ \t]+", re.MULTILINE)


def options_in(text: str) -> dict[str, str]:
    r"""The options that a question lists, by letter: one a line (`A. red`, `(A) red`), or in brackets one after another.

    >>> options_in("Which colour?\nA. red\nB. light blue\nAnswer with the letter.")
    {'A': 'red', 'B': 'light blue'}
    >>> options_in("Which colour? (A) red (B) light blue")
    {'A': 'red', 'B': 'light blue'}
    >>> options_in("Which letter is on the card?\nA. is no option alone.")
    {}
    """
    marks = list(_OPTION.finditer(text))
    letters = "".join(mark[1] or mark[2] for mark in marks)
    if len(letters) < 2 or not "ABCDEFGHIJ".startswith(letters):
        return {}
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = (
        text[mark.end() : end].partition("\n")[0] for mark, end in zip(marks, ends, strict=True)
    )
    return {letter: option.strip() for letter, option in zip(letters, options, strict=True)}


def final_answer(trace: Trace) -> str:
    r"""What lmms-eval is told of a trace: its answer, of a choice the letter; an empty text where there is none.

    >>> asked = Question(id="1", text="?", media=(), answer_type="choice", options={"A": "red", "B": "blue"})
    >>> final_answer(Trace(question=asked, stop=StopReason.ANSWERED, answer="(B) blue"))
    'B'
    >>> final_answer(Trace(question=asked, stop=StopReason.MAX_TURNS))
    ''
    """
    answer = answer_of(trace)
    if answer is None:
        return ""
    return option_meant(answer, trace.question.options) or unwrapped(answer)


def _of_ours(error: Exception) -> Exception:
    """An error that says what was wrong with a row."""
    if isinstance(error, PixelReasonerError | RowError):
        return error
    lines = str(error).strip().splitlines() or [""]
    return InputError(
        expected="a row that its task can read",
        got=f"{type(error).__name__}: {lines[0][:300]}",
        fix="look at this row's files",
    )


def _warn(problems: Mapping[str, str], asked: int) -> None:
    """Name the rows that could not be asked."""
    if not problems:
        return
    named = [f"{name}: {why}" for name, why in list(problems.items())[:NAMED]]
    if len(problems) > NAMED:
        named.append(f"and {len(problems) - NAMED} more")
    logger.warning(
        f"{len(problems)} of {asked} rows could not be asked and have empty answers:\n"
        + "\n".join(named)
    )


def _refuse(kind: str, requests: Sequence[Any], fix: str) -> NoReturn:
    tasks = sorted({str(request.task_name) for request in requests})
    raise UsageError(
        expected="tasks of the output_type generate_until",
        got=f"{kind} ({', '.join(tasks)})",
        fix=fix,
    )


_NAMES = (
    "model",
    "operations",
    "batch_size",
    "max_turns",
    "max_new_tokens",
    "device",
    "dialect",
    "traces",
)


_TEXTS = frozenset({"model", "device", "dialect", "traces"})

_ELSEWHERE = {"pretrained": "model", "model_version": "model"}
"""what models of lmms-eval call it"""


def _none_unknown(unknown: Mapping[str, Any]) -> None:
    for name in unknown:
        near = difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.7)
        ours = _ELSEWHERE.get(name) or next(iter(near), None)
        raise UsageError(
            expected=f"model_args among {', '.join(_NAMES)}",
            got=name,
            fix=f"write {ours}=..." if ours else "leave it out",
        )


def _count(name: str, value: Any) -> int:
    """A count of 1 or more. lmms-eval hands on what it has not read itself as text.

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


def _of_this_process() -> str | None:
    """Of several processes the device of this one, by which lmms-eval also gathers results; else None."""
    from accelerate import PartialState

    state = PartialState()
    return str(state.device) if state.num_processes > 1 else None


def _loaded(name: str, device: str | None, dialect: str | None) -> OurModel:
    from pixel_reasoner.models.local import LocalModel

    return LocalModel(name, device=device, dialect=dialect)
