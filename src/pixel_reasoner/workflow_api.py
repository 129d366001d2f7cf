"""Functions of the workflows for many media: what `import pixel_reasoner` exports, and what the command line calls.

import pixel_reasoner as pr

for row in pr.survey("photos", "Is there a dog?"):
    print(row.path, row.answer)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import NonNegativeInt, PositiveInt, SecretStr, with_config
from typing_extensions import Unpack

from pixel_reasoner.api import AnyModel, generation_model
from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.documents import read_passwords
from pixel_reasoner.model import Model
from pixel_reasoner.rollout.options import AskOptions, with_options
from pixel_reasoner.schema.options import valid_options
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.evaluate import parse_shard
from pixel_reasoner.workflows.progress import ProgressReporter
from pixel_reasoner.workflows.survey.complete import SurveySummary
from pixel_reasoner.workflows.survey.merge import is_survey, merge_surveys
from pixel_reasoner.workflows.survey.question_file import parse_questions, read_question_file
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.run import SurveySpec, run_survey, survey_rows
from pixel_reasoner.workflows.survey.table_row import SurveyRow

SurveyQuestions: TypeAlias = "str | Path | SurveyQuestion | Mapping[str, Any] | Sequence[str | SurveyQuestion | Mapping[str, Any]]"
"""path of a TOML file, the text of one question, a table with the keys of the file, or a list of questions"""

__all__ = [
    "SurveyOptions",
    "SurveyQuestion",
    "SurveyRow",
    "SurveySpec",
    "SurveySummary",
    "is_survey",
    "merge_surveys",
    "parse_seconds",
    "parse_shard",
    "read_passwords",
    "read_question_file",
    "survey",
    "write_survey",
]


@with_config(extra="forbid")
class SurveyOptions(AskOptions, total=False):
    """Options of a survey besides those of each question (`AskOptions`)."""

    batch_size: PositiveInt
    """requests in progress at once; 16 by default"""
    shard: str
    """`i/n`: only each n-th medium, from the i-th on"""
    every: str | float
    """length of the windows into which clips are divided: `10s`, or seconds"""
    shots: bool
    """whether clips are divided into shots"""
    column: str
    """column of tables with the paths"""
    max_pages: PositiveInt
    """pages of one document; 1,000 by default"""
    allow_media: tuple[Path, ...]
    """folders, besides that of a table, from which its rows may name media"""
    pdf_passwords: tuple[SecretStr, ...]
    """tried in order for a protected PDF"""
    decode_workers: NonNegativeInt
    """processes that decode media; 0 by default: this process"""
    watch: bool
    """whether the medium is the folder of a running camera; the rows have no end then"""


def survey(
    media: str | Path | Sequence[str | Path],
    questions: SurveyQuestions,
    model: AnyModel = "tiny",
    *,
    out: str | Path | None = None,
    samples: int = 1,
    config: RolloutConfig | None = None,
    **options: Unpack[SurveyOptions],
) -> Iterator[SurveyRow]:
    r"""Yield one row for each question about each medium, as they finish. Memory does not depend on the number of rows.

    A medium that cannot be used gives a row with `error`, and the rest goes on.

    Args:
        media: pictures, clips, documents, folders, globs, zip files, or tables (CSV, TSV, JSONL, Parquet) of paths.
        questions: path of a TOML file (`pixel-reasoner init survey` writes one), the text of a question, or a list of texts,
            `SurveyQuestion` or dicts with the keys of the file.
        model: a loaded model, or which one to load.
        out: folder for rows.jsonl, rows.csv, rows.parquet, traces and a report. An earlier run in it is resumed, and its rows
            are yielded too.
        samples: answers per question; needs a temperature above 0. Their agreement decides whether a row is unsure.
        config: limits, sampling, operations.
        **options: single values (`SurveyOptions`).

    Raises:
        UsageError: mistakes in the questions, invalid options, or `out` contains a run with other settings.
        InputError: a path that does not exist.
        OutputError: `out` cannot be written.
        EndpointError: all servers fail.

    >>> import tempfile; from PIL import Image
    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> folder = Path(tempfile.mkdtemp())
    >>> for colour in ("red", "blue"):
    ...     Image.new("RGB", (64, 48), colour).save(folder / f"{colour}.png")
    >>> rows = survey(folder, {"id": "sky", "text": "Is it blue?", "type": "yes_no"}, ScriptedModel([r"\boxed{Yes}"]))
    >>> sorted((Path(row.path).name, row.question, row.answer, row.agreement) for row in rows)
    [('blue.png', 'sky', 'yes', 1.0), ('red.png', 'sky', 'yes', 1.0)]
    """
    given = valid_options(SurveyOptions, options, "an option of a survey")
    base = config or (model.config if isinstance(model, Model) else RolloutConfig())
    asking = {name: given.pop(name) for name in AskOptions.__annotations__ if name in given}
    sources = [media] if isinstance(media, str | Path) else list(media)
    watch = _watched(sources) if given.pop("watch", False) else None
    every, shard = given.pop("every", None), given.pop("shard", "1/1")
    spec = SurveySpec(
        questions=tuple(_questions(questions)),
        media=tuple(map(str, sources)) if watch is None else (),
        watch=watch,
        out=None if out is None else Path(out),
        config=with_options(base, asking),
        samples=samples,
        shard=parse_shard(shard),
        every_s=None if every is None else parse_seconds(every),
        **given,
    )
    return survey_rows(spec, generation_model(model, spec.config))


def write_survey(
    spec: SurveySpec,
    model: AnyModel,
    progress: ProgressReporter | None = None,
    on_message: Any = None,
) -> SurveySummary:
    """Run or resume a survey in a folder, and return what it wrote.

    Args:
        spec: media, questions and folder.
        model: a loaded model, or which one to load.
        progress: receives the number of rows.
        on_message: called with a text when a watched folder disappears and when it is back.

    Raises:
        UsageError: `out` contains a run with other settings.
        OutputError: `out` cannot be written.
        EndpointError: all servers fail.
    """
    loaded = generation_model(model, spec.config)
    return run_survey(spec, loaded, progress, on_message or (lambda text: None))


def parse_seconds(value: str | float) -> Fraction:
    """Return a length of time in seconds.

    Raises:
        UsageError: another form, or not above 0.

    >>> parse_seconds("10s"), parse_seconds("1.5m"), parse_seconds(0.5)
    (Fraction(10, 1), Fraction(90, 1), Fraction(1, 2))
    """
    text = str(value).strip().lower()
    factor = 60 if text.endswith("m") else 1
    try:
        seconds = Fraction(text.rstrip("sm")) * factor
    except (ValueError, ZeroDivisionError):
        seconds = Fraction(0)
    if seconds <= 0:
        raise UsageError(
            expected="a length of time above 0 in seconds or minutes",
            got=repr(value),
            fix="for example 10s",
        )
    return seconds


def _questions(questions: SurveyQuestions) -> list[SurveyQuestion]:
    if isinstance(questions, Path) or (isinstance(questions, str) and questions.endswith(".toml")):
        return read_question_file(Path(questions))
    if isinstance(questions, Mapping) and "question" in questions:
        return parse_questions(questions)
    several = (
        [questions] if isinstance(questions, str | SurveyQuestion | Mapping) else list(questions)
    )
    known = [one for one in several if isinstance(one, SurveyQuestion)]
    if len(known) == len(several):
        return known
    if known:
        raise UsageError(
            expected="questions of one kind",
            got="SurveyQuestion and others",
            fix="use SurveyQuestion for all",
        )
    return parse_questions(
        {"question": [{"text": one} if isinstance(one, str) else one for one in several]}
    )


def _watched(sources: Sequence[str | Path]) -> Path:
    if len(sources) != 1:
        raise UsageError(
            expected="one folder to watch",
            got=f"{len(sources)} paths",
            fix="give the folder of the camera",
        )
    return Path(sources[0])
