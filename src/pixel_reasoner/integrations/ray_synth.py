"""Synthesis of expert traces by actors on a Ray cluster, with the bytes of a run in one process. Extra: `ray`.

    with connected(RayOptions(address="auto", actors=8)) as options:
        synthesize(spec, map_units=partial(map_units_on_ray, options=options))

Actors render scenes into a folder of their own and return the encoded files, so nodes need no shared storage for PixelWorld.
Rows of a data set name files, which every node must be able to read.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.data.synth import SynthSettings, Unit, write_unit
from pixel_reasoner.data.unit_files import UnitResult
from pixel_reasoner.errors import EndpointError, PixelReasonerError, UsageError
from pixel_reasoner.integrations.ray_cluster import RayOptions, is_missing
from pixel_reasoner.integrations.ray_pool import ActorPool, Failure, Lost, Started, started
from pixel_reasoner.schema.media_url import allowed_media_urls, join_media, set_media_urls
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.units import SourceUnit

_UNITS_PER_JOB = 4
_JOBS_PER_ACTOR = 2
"""one in progress and one that waits there"""
_WAIT_S = 0.5


class UnitFiles(NamedTuple):
    """Result of a unit, with the files that it rendered."""

    result: UnitResult
    files: dict[str, bytes]
    """relative path -> content"""
    missing: str = ""
    """path of a medium that does not exist where the actor is"""
    node: str = ""


class UnitActor:
    """Actor that writes the traces of units.

    Args:
        settings: of the run.
        folder: folder of media that rows name by relative paths.
        media_urls: URL prefixes below which media may be read.
    """

    def __init__(
        self, settings: SynthSettings, folder: Path, media_urls: tuple[str, ...] = ()
    ) -> None:
        self._settings, self._folder, self._media_urls = settings, folder, media_urls
        self._node = ""

    def start(self) -> Started:
        """Return what must be equal for all actors."""
        set_media_urls(self._media_urls)
        result = started()
        self._node = result.node
        return result

    def run(self, key: str, units: list[Unit]) -> list[UnitFiles] | Failure:
        """Return the results of some units, in order."""
        del key
        try:
            return [self._write(unit) for unit in units]
        except PixelReasonerError as error:
            return Failure(error)

    def _write(self, unit: Unit) -> UnitFiles:
        if not isinstance(unit, Question | list) and _is_scene(unit):
            with tempfile.TemporaryDirectory(prefix="pixel-reasoner-") as name:
                folder = Path(name)
                result = write_unit(unit, self._settings, folder)
                paths = [path for path in result.media if (folder / path).is_file()]
                return UnitFiles(result, {path: (folder / path).read_bytes() for path in paths})
        result = write_unit(unit, self._settings, self._folder)
        missing = next(filter(is_missing, self._media(unit)), "") if result.dropped else ""
        return UnitFiles(result, {}, missing, self._node)

    def _media(self, unit: Unit) -> Iterator[str]:
        if isinstance(unit, SourceUnit) and hasattr(unit.source, "data"):
            yield str(unit.source.data)
        for row in unit if isinstance(unit, list) else [unit]:
            if isinstance(row, Question):
                yield from (join_media(self._folder, item.path) for item in row.media)


def map_units_on_ray(
    units: Iterable[Unit], settings: SynthSettings, folder: Path, *, options: RayOptions
) -> Generator[UnitResult, None, None]:
    """Yield the result of each unit in order. Only a few jobs are submitted or finished ahead of the consumer.

    Args:
        units: consumed lazily.
        settings: of the run.
        folder: receives the rendered media.
        options: of a connected cluster.

    Raises:
        PixelReasonerError: no actor is left, or a node cannot read the media.
    """
    import ray

    changed = threading.Event()
    remote = ray.remote(UnitActor).options(**options.actor_options)
    create = partial(remote.remote, settings, folder.absolute(), allowed_media_urls())
    pool = ActorPool(create, options, per_actor=_JOBS_PER_ACTOR, on_change=changed.set)
    source, numbers = iter(units), count()
    keys = deque[str]()
    done: dict[str, list[UnitFiles] | Lost] = {}
    try:
        while True:
            while len(keys) < 2 * pool.capacity and (job := list(islice(source, _UNITS_PER_JOB))):
                keys.append(str(next(numbers)))
                pool.submit(keys[-1], job)
            if not keys:
                return
            done.update(pool.take_results())
            if keys[0] in done:
                yield from _stored(done.pop(keys.popleft()), folder)
            else:
                changed.wait(_WAIT_S)
                changed.clear()
    finally:
        pool.close()


def _is_scene(unit: Unit) -> bool:
    return type(unit) is tuple


def _stored(results: list[UnitFiles] | Lost, folder: Path) -> Iterator[UnitResult]:
    """Write the files of results and yield the results."""
    if isinstance(results, Lost):
        raise EndpointError(
            expected="an actor that survives the row",
            got=results.reason,
            fix="see the logs of Ray for a crash or too little memory; finished work is kept",
        )
    for one in results:
        if one.missing and not is_missing(one.missing):
            raise UsageError(
                expected="media that every node of the cluster can read",
                got=f"{one.missing}, which does not exist on {one.node}",
                fix="put them on storage that all nodes share, at the same path",
            )
        for path, content in one.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        yield one.result
