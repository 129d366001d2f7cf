"""Functions of the search for moments: what `import pixel_reasoner` exports, and what the command line calls.

import pixel_reasoner as pr

for found in pr.find_moments("talk.mp4", "a slide with a chart"):
    for moment in found.moments:
        print(moment.start_s, moment.end_s)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import Unpack

from pixel_reasoner.api import AnyModel, generation_model
from pixel_reasoner.model import Model
from pixel_reasoner.rollout.options import AskOptions, with_options
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.annotated import moments_model as annotated_model
from pixel_reasoner.workflows.moments.clips.camera import parse_aspect
from pixel_reasoner.workflows.moments.clips.make import ClipOptions
from pixel_reasoner.workflows.moments.estimate import Estimate, estimate_find, parse_duration
from pixel_reasoner.workflows.moments.exports.write import parse_formats
from pixel_reasoner.workflows.moments.find import SearchOptions, find_moments as search_moments
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments
from pixel_reasoner.workflows.moments.query_file import read_queries
from pixel_reasoner.workflows.moments.run import FindSpec, FindSummary, run_find
from pixel_reasoner.workflows.moments.summary import summary_lines
from pixel_reasoner.workflows.progress import ProgressReporter

__all__ = [
    "ClipOptions",
    "Estimate",
    "FindSpec",
    "FindSummary",
    "Moment",
    "SearchOptions",
    "VideoMoments",
    "annotated_model",
    "estimate_find",
    "find_moments",
    "parse_aspect",
    "parse_duration",
    "parse_formats",
    "read_queries",
    "summary_lines",
    "write_find",
]


def find_moments(
    videos: str | Path | Sequence[str | Path],
    queries: str | Sequence[str],
    model: AnyModel = "tiny",
    *,
    search: SearchOptions | None = None,
    config: RolloutConfig | None = None,
    **options: Unpack[AskOptions],
) -> Iterator[VideoMoments]:
    r"""Yield the moments of each video that show a description, as videos finish. Nothing is written.

    A video that cannot be read gives a result with `error`, and the rest goes on. `moments` is empty if nothing was found;
    `near` has the nearest misses and `unsampled` what was not searched.

    Args:
        videos: paths of videos.
        queries: descriptions, such as `a red car enters`; all are searched in one pass.
        model: a loaded model, or which one to load.
        search: how videos are searched: step of the coarse pass, frames per question, samples.
        config: limits, sampling, operations.
        **options: single values of the configuration (`rollout.options.AskOptions`).

    Raises:
        UsageError: no descriptions, invalid options, or a missing package.
        EndpointError: all servers fail.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> [found.error is None for found in find_moments("no.mp4", "a red car", ScriptedModel(["none"]))]
    [False]
    """
    paths = [videos] if isinstance(videos, str | Path) else list(videos)
    texts = [queries] if isinstance(queries, str) else list(queries)
    base = config or (model.config if isinstance(model, Model) else RolloutConfig())
    chosen = with_options(base, options)
    return search_moments(paths, texts, generation_model(model, chosen), search, chosen)


def write_find(
    spec: FindSpec, model: AnyModel | None = None, progress: ProgressReporter | None = None
) -> FindSummary:
    """Run or resume a search in a folder, and write tables, exports, clips and a report.

    Args:
        spec: videos, descriptions and outputs.
        model: a loaded model, or which one to load; None with a table of spans.
        progress: receives the number of videos and clips.

    Raises:
        UsageError: `out` contains a run with other settings.
        InputError: no such table of spans.
        OutputError: `out` cannot be written.
        EndpointError: all servers fail.
    """
    loaded = None if model is None else generation_model(model, spec.config)
    return run_find(spec, loaded, progress)
