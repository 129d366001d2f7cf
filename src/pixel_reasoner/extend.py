"""Everything that a package with extensions and its tests need, in one import. `docs/extend.md` has an example of each kind.

    from pixel_reasoner.extend import reward

    @reward
    def brief(trace: Trace) -> float: ...

A decorator registers in the process that imports the module. An entry point makes the extension known to every process:

    [project.entry-points."pixel_reasoner.rewards"]
    brief = "my_package:brief"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixel_reasoner.dialects import Dialect, detect_dialect, get_dialect
from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.conformance import assert_valid_dialect
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets, token_budgets
from pixel_reasoner.dialects.proposal import BOX_GRIDS
from pixel_reasoner.dialects.registry import register as register_dialect
from pixel_reasoner.dialects.syntax.catalogue import CALL_SYNTAXES
from pixel_reasoner.dialects.template_facts import THOUGHT_TAGS
from pixel_reasoner.evals.benchmark import (
    Benchmark,
    RowDraft,
    read_drafts,
    register_benchmarks,
    select_questions,
)
from pixel_reasoner.evals.benchmarks import get_benchmark
from pixel_reasoner.evals.readers import files_below, find_media_file, image, tsv_rows
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.transforms import TransformSpec, transform
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.registry import model_backend
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.operations.base import (
    BoxArgument,
    BoxesArgument,
    CallRejected,
    Drawing,
    FramesArgument,
    MediaKind,
    OperationSpec,
    PictureArgument,
    PlanRequest,
    PointsArgument,
    SegmentsArgument,
    assert_valid_operation,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.reports.sections import report_section
from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.strategies import strategy
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import ModelInfo, RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    ToolCall,
    Trace,
    Transform,
    load_traces,
    save_traces,
)
from pixel_reasoner.scoring.rewards import reward
from pixel_reasoner.sources.base import FileSource, Source, source
from pixel_reasoner.sources.rows import SkippedRow

if TYPE_CHECKING:
    from pixel_reasoner.train.reward_functions import load_reward

__all__ = [
    "BOX_GRIDS",
    "CALL_SYNTAXES",
    "THOUGHT_TAGS",
    "AnswerType",
    "Benchmark",
    "Box",
    "BoxArgument",
    "BoxesArgument",
    "CallErrorKind",
    "CallRejected",
    "Carriage",
    "Completion",
    "Dialect",
    "Drawing",
    "Evidence",
    "FileSource",
    "FramesArgument",
    "MediaContext",
    "MediaItem",
    "MediaKind",
    "ModelInfo",
    "ModelMatch",
    "ModelSpec",
    "Observation",
    "OperationSpec",
    "Picture",
    "PictureArgument",
    "PlanRequest",
    "PointsArgument",
    "Question",
    "RolloutConfig",
    "RolloutRequest",
    "RolloutScheduler",
    "RowDraft",
    "SamplingParams",
    "ScriptedModel",
    "SegmentsArgument",
    "SkippedRow",
    "Source",
    "ToolCall",
    "Trace",
    "Transform",
    "TransformSpec",
    "assert_valid_dialect",
    "assert_valid_operation",
    "detect_dialect",
    "family_dialect",
    "files_below",
    "find_media_file",
    "get_benchmark",
    "get_dialect",
    "image",
    "load_reward",
    "load_traces",
    "model_backend",
    "operation",
    "read_drafts",
    "register_benchmarks",
    "register_dialect",
    "report_section",
    "reward",
    "save_traces",
    "select_questions",
    "source",
    "strategy",
    "tile_budgets",
    "token_budgets",
    "transform",
    "tsv_rows",
]


def __getattr__(name: str) -> Any:
    """Import `load_reward` when it is first used: its package changes settings of the training libraries."""
    if name == "load_reward":
        from pixel_reasoner.train.reward_functions import load_reward

        return load_reward
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
