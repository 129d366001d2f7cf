"""Layout of a run folder: traces, settings and summary, of this version or an older one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import check_settings, read_json_object, write_or_check_settings
from pixel_reasoner.runs.media_folders import allowed_places
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.migrate import settings_v1
from pixel_reasoner.schema.question import restrict_media, with_media_root
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.trace import Trace, load_traces

SUMMARY = "summary.json"
SETTINGS = "settings.json"


def load_run(path: Path, allow_media: Sequence[Path] = ()) -> Iterator[Trace]:
    """Yield the traces of a run folder or a `traces.jsonl`. Relative media paths are resolved against its folder.

    Media access is restricted to that folder, to the folders noted when the run was written (`runs.media_folders`), and
    to `allow_media`.

    Raises:
        InputError: no such file, or a line that is not a trace (with its number).
    """
    file = path / TRACES if path.is_dir() else path
    folder = file.parent
    allowed = allowed_places(folder, allow_media)
    for trace in load_traces(file):
        question = with_media_root(trace.question, folder)
        yield trace.model_copy(update={"question": restrict_media(question, allowed)})


def resolve_media_paths(trace: Trace, folder: Path) -> Trace:
    """Return a trace with relative media paths resolved against a folder."""
    return trace.model_copy(update={"question": with_media_root(trace.question, folder)})


def run_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of an evaluation in its folder. Settings of older versions are migrated.

    Raises:
        InputError: no readable settings.
    """
    fix = "give a folder that `pixel-reasoner eval` wrote"
    return migrated_settings(read_json_object(folder / SETTINGS, "the folder of a run", fix))


def write_or_check_run_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new evaluation, or check that a resumed evaluation has the same settings.

    Raises:
        UsageError: the folder contains a run with other settings.
        InputError: its settings cannot be read.
        OutputError: the folder cannot be written.
    """
    write_or_check_settings(folder / SETTINGS, settings, migrated_settings)


def check_run_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that the evaluation in a folder, if any, has these settings (all or some of them). Writes nothing.

    Raises:
        UsageError: the folder contains a run with other settings.
        InputError: its settings cannot be read.
    """
    check_settings(folder / SETTINGS, settings, migrated_settings)


def migrated_settings(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert the settings of an evaluation to the current version: `task` and the fields of `RunSettings`.

    >>> migrated_settings({"task": {"name": "t"}, "disturb": True, "operations": True})["perturb"]
    True
    """
    task = {"task": fields["task"]} if "task" in fields else {}
    rest = {name: value for name, value in fields.items() if name != "task"}
    try:
        settings = RunSettings.model_validate(settings_v1(rest))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            expected="the settings of a run",
            got=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            fix="upgrade pixel-reasoner if a newer version wrote them; else delete the folder",
        ) from error
    # Compare values after a JSON round trip, in which a tuple becomes a list.
    return {**task, **json.loads(json.dumps(settings.to_dict()))}
