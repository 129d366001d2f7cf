"""Merge of the shards of one survey: the folder that a survey without shards would have written.

`rows.jsonl` has the same bytes as that of a survey without shards. Rows with an error are asked again by the command of the
survey without `--shard`, with the merged folder as `--out`.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import diff_settings, numbered_lines, read_json_object
from pixel_reasoner.runs.media_folders import note_media_folders, noted_media_folders
from pixel_reasoner.runs.store import COMPLETE, TRACES, read_manifest
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.strict_json import parse_json
from pixel_reasoner.workflows.survey.complete import SurveySummary, complete_survey
from pixel_reasoner.workflows.survey.question_file import parse_questions
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.rows import ID, POSITION, ROWS, SPEC, RowWriter
from pixel_reasoner.workflows.survey.watch import OnMessage

_SURVEY, _SHARD = "survey", "shard"
"""keys of spec.json: the questions; index of the shard from 0, and number of shards"""


class _Shard(NamedTuple):
    folder: Path
    number: int
    """from 0"""


def is_survey(folder: Path) -> bool:
    """Return whether a folder contains a survey, from its settings."""
    try:
        return _SURVEY in _settings(folder)
    except InputError:
        return False


def merge_surveys(
    shards: Sequence[Path], out: Path, on_message: OnMessage = lambda text: None
) -> SurveySummary:
    """Write the folder of a survey without shards from the folders of its shards. Keeps a number per row in memory.

    Args:
        shards: folders of all shards of one survey, in any order.
        out: folder of the merged survey; an interrupted merge is continued.
        on_message: called with a text if rows.parquet is not written.

    Raises:
        UsageError: shards of different surveys, missing or repeated shards, or `out` contains another run.
        InputError: no survey, an unfinished shard, or shards of different media.
        OutputError: `out` cannot be written.
    """
    ordered, settings = _checked(shards)
    for shard in ordered:
        _check_complete(shard.folder)
    questions = _questions(settings)
    _check_media(ordered, len(questions))
    note_media_folders(
        out,
        {one for shard in ordered for one in (shard.folder, *noted_media_folders(shard.folder))},
    )
    with RowWriter(out, settings) as writer:
        for shard in ordered:
            if (shard.folder / TRACES).exists():
                writer.append_traces(load_traces(shard.folder / TRACES))
        rows = heapq.merge(*map(_rows, ordered), key=itemgetter(POSITION))
        for row in rows:
            writer.append(_without_position(row), position=row[POSITION])
        return complete_survey(writer, questions, on_message=on_message)


# --- checks ---


def _checked(folders: Sequence[Path]) -> tuple[list[_Shard], dict[str, Any]]:
    """Return the shards in order, and the settings of the survey without shards."""
    found: dict[int, Path] = {}
    common: dict[str, Any] = {}
    num_shards = 0
    for folder in folders:
        settings = _settings(folder)
        index, count = settings[_SHARD]
        settings[_SHARD] = [0, 1]
        differing = diff_settings(common, settings) if found else {}
        if found and count != num_shards:
            differing = {"number of shards": [num_shards, count]}
        for name, (one, other) in differing.items():
            raise UsageError(
                expected=f"shards of one survey: {name} = {json.dumps(one)}, as in {folders[0]}",
                got=f"{json.dumps(other)} in {folder}",
                fix="name the folders of one survey's shards",
            )
        if index in found:
            raise UsageError(
                expected="each shard once",
                got=f"{index + 1}/{count} in {found[index]} and in {folder}",
                fix="leave out one of them",
            )
        found[index], common, num_shards = folder, settings, count
    if missing := sorted(set(range(num_shards)) - set(found)):
        raise UsageError(
            expected=f"all {num_shards} shards",
            got=f"no {', '.join(f'{number + 1}/{num_shards}' for number in missing)}",
            fix="run them, or name their folders too",
        )
    return [_Shard(found[index], index) for index in sorted(found)], common


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a survey.

    Raises:
        InputError: the folder contains none.
    """
    settings = read_json_object(folder / SPEC, "the folder of a survey", "check the path")
    if _SURVEY not in settings or _SHARD not in settings:
        raise InputError(
            expected="the folder of a survey", got=f"{folder}, of another run", fix="check the path"
        )
    return settings


def _check_complete(folder: Path) -> None:
    if read_manifest(folder).get("state") != COMPLETE:
        raise InputError(
            expected="finished shards",
            got=f"{folder}, which was interrupted",
            fix="run its command again; it continues",
        )


def _check_media(shards: Sequence[_Shard], num_questions: int) -> None:
    """Check that the shards divide the same media: medium n is in shard n modulo their number.

    Raises:
        InputError: one has more or fewer media than its share, or two have one medium, because a folder changed between runs.
    """
    seen: set[int] = set()
    counts = [_num_media(shard, num_questions, len(shards), seen) for shard in shards]
    total = sum(counts)
    for shard, count in zip(shards, counts, strict=True):
        expected = len(range(shard.number, total, len(shards)))
        if count != expected:
            raise _other_media(f"{count:,} media instead of {expected:,} in {shard.folder}")


def _num_media(shard: _Shard, num_questions: int, num_shards: int, seen: set[int]) -> int:
    """Return the number of media of a shard, and add the hashes of the ids of its rows to `seen`.

    Raises:
        InputError: a gap in the numbers of media, or a row of an earlier shard.
    """
    count, last = 0, -1
    for row in _rows(shard):
        if hash(row[ID]) in seen:
            raise _other_media(f"the row {row[ID]} in {shard.folder} and in another one")
        seen.add(hash(row[ID]))
        number = row[POSITION] // (num_questions + 1)
        if number != last:
            if number != shard.number + count * num_shards:
                raise _other_media(f"medium {number:,} in {shard.folder}")
            count, last = count + 1, number
    return count


def _other_media(got: str) -> InputError:
    return InputError(
        expected="shards of the same media",
        got=got,
        fix="give each shard the same media, and run those with others again",
    )


# --- rows ---


def _rows(shard: _Shard) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard with their positions, which ascend.

    Raises:
        InputError: a line that is not a row (with its number).
    """
    path = shard.folder / ROWS
    for number, line in numbered_lines(path, "rows of a survey"):
        try:
            row = parse_json(line)
            if not isinstance(row[ID], str) or not isinstance(row[POSITION], int):
                raise TypeError("an id or position of another type")
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                expected="rows of a survey",
                got=f"{path}, line {number}: {error}",
                fix="run the command of this shard again",
            ) from error
        yield row


def _without_position(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != POSITION}


def _questions(settings: Mapping[str, Any]) -> tuple[SurveyQuestion, ...]:
    """Return the questions in the settings, where keys without a value are null."""
    tables = [
        {key: value for key, value in one.items() if value not in (None, [])}
        for one in settings[_SURVEY]
    ]
    return tuple(parse_questions({"question": tables}))
