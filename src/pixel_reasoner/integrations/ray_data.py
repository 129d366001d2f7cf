"""Questions of a Ray Data dataset, answered by actors that each hold a model or a client. Extra: `ray`.

    answered = ask_dataset(ray.data.read_text("questions.jsonl"), ModelSpec("tiny"), actors=2)

A row is a question in the neutral form (`data.seeds.read_jsonl`), or as this project writes it, its answer left out if it is not known

    one column          a line of JSON, whatever the column is called (`ray.data.read_text`), or an object
    several columns     the keys of the question (`ray.data.read_json`, `read_parquet`); null counts as left out

Each row gives one row of texts, in no fixed order

    id, answer, stop    of the trace; `answer` is null where there is none
    error               why a row could not be asked (`stop` is `failed_trace`): it is no question, its media cannot be used, a server refused
    trace               all of it, as a line of a `traces.jsonl`

A model that cannot be loaded and servers that do not answer any more end the run: they would fail every further row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixel_reasoner.errors import InputError, UsageError, packages_of
from pixel_reasoner.models.api import Model
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.state import failed_trace, settings_of
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.jsonl import question_of_row
from pixel_reasoner.sources.rows import Row, SkippedRow, json_object, try_build

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

COLUMNS = ("id", "answer", "stop", "error", "trace")


def ask_dataset(  # noqa: PLR0913 - options of Ray stand beside ours
    dataset: Dataset,
    model: ModelSpec | Callable[[], Model],
    rules: RolloutConfig | None = None,
    *,
    folder: Path | str = ".",
    batch_size: int = 16,
    rows: int = 64,
    actors: int = 1,
    **options: Any,
) -> Dataset:
    """Ask every row of a dataset. Nothing happens until the result is read or written.

    Args:
        dataset: of questions, one a row.
        model: its name, or what makes one; called once in each actor.
        rules: limits, decoding, whether operations are offered.
        folder: which relative paths of media are relative to. Every node has to see the media.
        batch_size: questions that move together in an actor.
        rows: that an actor is given at a time. It begins with the next when all of these are answered: more of them keep
            the batch full for longer, fewer spread a small dataset over more actors.
        actors: that run side by side, each with a model of its own.
        options: of `Dataset.map_batches`: `num_gpus`, `num_cpus` (that an actor reserves, 0 by default, and as many threads as torch
            then has there), `memory`, `runtime_env`, `compute` instead of `actors`, ...

    Raises:
        UsageError: Ray is not installed, or a count below 1.
    """
    with packages_of("ray", "run Ray Data"):
        from ray.data import ActorPoolStrategy
    for name, count in (("batch_size", batch_size), ("rows", rows), ("actors", actors)):
        if count < 1:
            raise UsageError(expected=f"{name} of 1 or more", got=str(count), fix="give one")
    given = (model, rules or RolloutConfig(), Path(folder).absolute(), batch_size)
    # Actors that held all CPUs of a small cluster would wait for ever for rows that nobody could read.
    usual = {"compute": ActorPoolStrategy(size=actors), "num_cpus": 0}
    return dataset.map_batches(
        Reasoner,
        fn_constructor_args=given,
        batch_size=rows,
        batch_format="pyarrow",
        **{**usual, **options},
    )


class Reasoner:
    r"""An actor's model; called with a table of questions, it answers with a table of traces.

    Args:
        model: its name, or what makes one.
        rules: limits, decoding, whether operations are offered.
        folder: which relative paths of media are relative to.
        batch_size: questions that move together.

    Raises:
        PixelReasonerError: the model cannot be loaded (`ModelSpec.load`).

    >>> import pyarrow; from pixel_reasoner.models.scripted import ScriptedModel
    >>> asked = pyarrow.table({"line": ['{"id": "1", "text": "Which colour?", "media": []}', "?"]})
    >>> answered = Reasoner(lambda: ScriptedModel([r"\boxed{red}"]))(asked)
    >>> answered["answer"].to_pylist(), answered["stop"].to_pylist()
    (['red', None], ['answered', 'failed'])
    """

    def __init__(
        self,
        model: ModelSpec | Callable[[], Model],
        rules: RolloutConfig | None = None,
        folder: Path = Path(),
        batch_size: int = 16,
    ) -> None:
        self.rules = rules or RolloutConfig()
        self.model: Model = (
            model.load(operations=bool(self.rules.operations))
            if isinstance(model, ModelSpec)
            else model()
        )
        self.folder = folder
        self.batch_size = batch_size

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Answer a batch of rows.

        Raises:
            EndpointError: no reply can be expected any more.
        """
        import pyarrow

        traces = list(self._traces(batch.to_pylist()))
        assert len(traces) == len(batch), f"{len(traces)} traces of {len(batch)} rows"
        told = [
            (trace.question.id, trace.answer, trace.stop.value, trace.error, trace.to_line())
            for trace in traces
        ]
        # Types are named: a batch without an error would have a column of another type.
        texts = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
        return pyarrow.Table.from_pylist(
            [dict(zip(COLUMNS, row, strict=True)) for row in told], schema=texts
        )

    def _traces(self, rows: list[dict[str, Any]]) -> Iterator[Trace]:
        read = [question_of(row, self.folder) for row in rows]
        questions = [one for one in read if isinstance(one, Question)]
        yield from ask_many(questions, self.model, self.rules, batch_size=self.batch_size)
        settings = settings_of(self.model, self.rules)
        for row, one in zip(rows, read, strict=True):
            if isinstance(one, SkippedRow):
                error = InputError(
                    expected="a row that is a question",
                    got=f"{one.where}: {one.reason}: {one.detail}",
                    fix="mend it; other rows do not suffer from it",
                )
                yield failed_trace(
                    Question(id=one.where, text=_text(row), media=()), error, settings
                )


def question_of(row: Mapping[str, Any], folder: Path) -> Row:
    """The question in a row, or why there is none; a row without an id is named by a hash of it.

    >>> question_of({"id": "7", "text": "Which colour?", "media": [], "options": {"A": "red", "B": None}}, Path()).options
    {'A': 'red'}
    >>> question_of({"question": "Which colour?"}, Path())[1:]
    ('not_json', 'Expecting value: line 1 column 1 (char 0)')
    """
    told: dict[str, Any] = {}

    def build() -> Question:
        told.update(_without_null(_object(row)))
        return question_of_row({"answer": [], **told}, folder)

    found = try_build("", build)
    if isinstance(found, Question):
        return found
    name = str(told.get("id", "")) or f"row-{hashlib.sha256(_text(row).encode()).hexdigest()[:12]}"
    return found._replace(where=name)


def _object(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(row) > 1:
        return row
    (told,) = row.values()
    return told if isinstance(told, dict) else json_object(told)


def _without_null(told: Any) -> Any:
    """Arrow gives every object of a column the keys of all."""
    if isinstance(told, Mapping):
        return {key: _without_null(value) for key, value in told.items() if value is not None}
    return [_without_null(value) for value in told] if isinstance(told, list) else told


def _text(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)
