"""Batch inference over a Ray Data dataset of questions. Each actor has its own model or client. Extra: `ray`.

    answered = ask_dataset(ray.data.read_text("questions.jsonl"), ModelSpec("tiny"), actors=2)

A row is an own row (`sources.jsonl`) or a question in this project's format. The answer is optional.

    one column          a line of JSON (any column name, `ray.data.read_text`), or an object
    several columns     the keys of the question (`ray.data.read_json`, `read_parquet`); null means missing

Every row gives one output row of texts, in no fixed order.

    id, answer, stop    fields of the trace; `answer` is null if there is none
    error               reason of a failed row (`stop` is `failed`): invalid question, unusable media, rejected request
    trace               the whole trace, as a line of `traces.jsonl`

If a model cannot be loaded or servers stop answering, the run ends, because all further rows would fail.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixel_reasoner.errors import InputError, UsageError, require_extra
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.state import collect_settings, failed_trace
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.sources.jsonl import question_of_row
from pixel_reasoner.sources.rows import Row, SkippedRow, json_object, try_build

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

COLUMNS = ("id", "answer", "stop", "error", "trace")


def ask_dataset(  # noqa: PLR0913 - our options and those of Ray
    dataset: Dataset,
    model: ModelSpec | Callable[[], GenerationModel],
    rules: RolloutConfig | None = None,
    *,
    folder: Path | str = ".",
    batch_size: int = 16,
    rows: int = 64,
    actors: int = 1,
    **options: Any,
) -> Dataset:
    """Return the dataset of answers. It is evaluated lazily.

    Args:
        dataset: dataset of questions, one per row.
        model: model specification, or a function that returns a model; called once per actor.
        rules: limits, sampling, operations.
        folder: root of relative media paths. Every node needs access to the media.
        batch_size: number of concurrent questions per actor.
        rows: rows per call of an actor. The next call starts after all of them are answered: more rows keep the batch
        full for
          longer, fewer rows distribute a small dataset over more actors.
        actors: number of actors, each with its own model.
        options: options of `Dataset.map_batches`: `num_gpus`, `num_cpus` (reserved per actor, 0 by default, and its
        number of torch
          threads), `memory`, `runtime_env`, `compute` instead of `actors`, ...

    Raises:
        UsageError: Ray is not installed, or a count below 1.
    """
    with require_extra("ray", "run Ray Data"):
        from ray.data import ActorPoolStrategy
    for name, count in (("batch_size", batch_size), ("rows", rows), ("actors", actors)):
        if count < 1:
            raise UsageError(expected=f"{name} of 1 or more", got=str(count), fix="give one")
    arguments = (model, rules or RolloutConfig(), Path(folder).absolute(), batch_size)
    # Actors that reserve all CPUs of a small cluster would block forever: no CPU would be left to load rows.
    defaults = {"compute": ActorPoolStrategy(size=actors), "num_cpus": 0}
    return dataset.map_batches(
        Reasoner,
        fn_constructor_args=arguments,
        batch_size=rows,
        batch_format="pyarrow",
        **{**defaults, **options},
    )


class Reasoner:
    r"""Model of an actor. Called with a table of questions, it returns a table of traces.

    Args:
        model: model specification, or a function that returns a model.
        rules: limits, sampling, operations.
        folder: root of relative media paths.
        batch_size: number of concurrent questions.

    Raises:
        PixelReasonerError: the model cannot be loaded (`ModelSpec.load`).

    >>> import pyarrow; from pixel_reasoner.models.scripted import ScriptedModel
    >>> questions = pyarrow.table({"line": ['{"id": "1", "text": "Which colour?", "media": []}', "?"]})
    >>> answered = Reasoner(lambda: ScriptedModel([r"\boxed{red}"]))(questions)
    >>> answered["answer"].to_pylist(), answered["stop"].to_pylist()
    (['red', None], ['answered', 'failed'])
    """

    def __init__(
        self,
        model: ModelSpec | Callable[[], GenerationModel],
        rules: RolloutConfig | None = None,
        folder: Path = Path(),
        batch_size: int = 16,
    ) -> None:
        self.config = rules or RolloutConfig()
        self.model: GenerationModel = (
            model.load(operations=bool(self.config.operations))
            if isinstance(model, ModelSpec)
            else model()
        )
        self.folder = folder
        self.batch_size = batch_size

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Answer a batch of rows.

        Raises:
            EndpointError: the servers do not answer.
        """
        import pyarrow

        traces = list(self._traces(batch.to_pylist()))
        assert len(traces) == len(batch), f"{len(traces)} traces of {len(batch)} rows"
        values = [
            (trace.question.id, trace.answer, trace.stop.value, trace.error, trace.to_line())
            for trace in traces
        ]
        # An explicit schema: in a batch without errors, the error column would have another type.
        schema = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
        return pyarrow.Table.from_pylist(
            [dict(zip(COLUMNS, row, strict=True)) for row in values], schema=schema
        )

    def _traces(self, rows: list[dict[str, Any]]) -> Iterator[Trace]:
        parsed = [build_question(row, self.folder) for row in rows]
        questions = [one for one in parsed if isinstance(one, Question)]
        yield from ask_many(questions, self.model, self.config, batch_size=self.batch_size)
        settings = collect_settings(self.model, self.config)
        for row, one in zip(rows, parsed, strict=True):
            if isinstance(one, SkippedRow):
                error = InputError(
                    expected="a row with a question",
                    got=f"{one.where}: {one.reason}: {one.detail}",
                    fix="correct it; other rows are not affected",
                )
                yield failed_trace(
                    Question(id=one.where, text=_text(row), media=()), error, settings
                )


def build_question(row: Mapping[str, Any], folder: Path) -> Row:
    """Return the question in a row, or the reason for skipping it. The default id of a row is its hash.

    >>> build_question({"id": "7", "text": "Which colour?", "media": [], "options": {"A": "red", "B": None}}, Path()).options
    {'A': 'red'}
    >>> build_question({"question": "Which colour?"}, Path())[1:]
    ('not_json', 'Expecting value at character 1')
    """
    fields: dict[str, Any] = {}

    def build() -> Question:
        fields.update(_without_null(_object(row)))
        return question_of_row(fields, folder, needs_answer=False)

    found = try_build("", build)
    if isinstance(found, Question):
        return found
    name = (
        str(fields.get("id", "")) or f"row-{hashlib.sha256(_text(row).encode()).hexdigest()[:12]}"
    )
    return found._replace(where=name)


def _object(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(row) > 1:
        return row
    (value,) = row.values()
    return value if isinstance(value, dict) else json_object(value)


def _without_null(value: Any) -> Any:
    """Return a value without null fields: in Arrow, all objects of a column have the keys of all others."""
    if isinstance(value, Mapping):
        return {key: _without_null(one) for key, one in value.items() if one is not None}
    return [_without_null(one) for one in value] if isinstance(value, list) else value


def _text(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)
