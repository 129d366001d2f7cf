"""Typed settings of a rollout: pixel budgets, media limits, sampling parameters, rollout limits."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from pixel_reasoner.schema.record import Record

MAX_ENLARGED_PX = 100_000_000
"""maximum pixels of an enlarged picture; the largest budgets of published models are an eighth of it"""


class PixelBudget(Record):
    """Pixel range for one kind of picture."""

    min_px: Annotated[int, Field(ge=1, le=MAX_ENLARGED_PX)]
    max_px: PositiveInt

    def at_most(self, max_px: int | None) -> PixelBudget:
        """Return this budget with another maximum; None keeps it.

        >>> PixelBudget(min_px=400, max_px=900).at_most(100)
        PixelBudget(min_px=100, max_px=100)
        """
        if max_px is None:
            return self
        return PixelBudget(min_px=min(self.min_px, max_px), max_px=max_px)

    def within(self, min_px: int, max_px: int) -> PixelBudget:
        """Return this budget with both limits clipped to a range.

        >>> PixelBudget(min_px=400, max_px=900).within(500, 700)
        PixelBudget(min_px=500, max_px=700)
        """
        low, high = (min(max(end, min_px), max_px) for end in (self.min_px, self.max_px))
        return PixelBudget(min_px=low, max_px=high)


FIXED = "fixed"
"""policy of budgets that do not depend on the question"""
BudgetPolicy = Literal["fixed", "adaptive"] | PositiveInt
"""how pixel budgets depend on the question (`rollout.budgets`): a number is a number of visual tokens"""


class AdaptiveBudget(Record):
    """Rules of adaptive budgets that apply to each picture."""

    max_upscale: PositiveFloat
    """largest enlargement per side"""
    min_frame_difference: NonNegativeFloat
    """mean difference of two selected frames below which the second one is left out, as a share of the range of a pixel"""


class PixelBudgets(Record):
    """Pixel budget of each kind of picture in a prompt."""

    picture: PixelBudget
    """overview of a picture"""
    crop: PixelBudget
    """result of `zoom_in`"""
    frame: PixelBudget
    """sampled frame of a video, in the overview"""
    selected_frame: PixelBudget
    """result of `select_frames`"""
    multiple: Annotated[int, Field(ge=1, le=4096)]
    """sides are multiples of this number of pixels"""
    adaptive: AdaptiveBudget | None = None
    """further rules of adaptive budgets; None for fixed ones"""

    def for_source(self, budget: PixelBudget, size: tuple[int, int]) -> PixelBudget:
        """Return the budget of a picture with a source of this (width, height). Adaptive budgets limit its enlargement.

        >>> one = PixelBudget(min_px=4096, max_px=8192)
        >>> same = dict(picture=one, crop=one, frame=one, selected_frame=one, multiple=32)
        >>> adaptive = AdaptiveBudget(max_upscale=2, min_frame_difference=0)
        >>> PixelBudgets(**same, adaptive=adaptive).for_source(one, (20, 20)).min_px
        1024
        """
        if self.adaptive is None or budget.min_px == budget.max_px:
            return budget
        # Rounded down to the multiple: a picture is scaled up until it has at least `min_px`.
        multiple, factor = self.multiple, self.adaptive.max_upscale
        sides = (max(multiple, int(side * factor / multiple) * multiple) for side in size)
        least = min(budget.min_px, math.prod(sides))
        return budget.model_copy(update={"min_px": least})

    def at_most(self, overview_px: int | None, result_px: int | None) -> PixelBudgets:
        """Return these budgets with other maxima for overviews and for results of operations; None keeps a maximum."""
        return self.model_copy(
            update={
                "picture": self.picture.at_most(overview_px),
                "crop": self.crop.at_most(result_px),
                "selected_frame": self.selected_frame.at_most(result_px),
            }
        )

    def within(self, min_px: int, max_px: int) -> PixelBudgets:
        """Return these budgets, all clipped to a range."""
        kinds = ("picture", "crop", "frame", "selected_frame")
        return self.model_copy(
            update={kind: getattr(self, kind).within(min_px, max_px) for kind in kinds}
        )


class MediaLimits(Record):
    """Limits on untrusted media. All of them are enforced by `media.limits`.

    Limits that are new since version 1 are serialized only if they differ from the default, so that settings of older
    runs compare equal.
    """

    max_px: PositiveInt = 200_000_000
    """pixels of one picture or frame; three to four bytes of memory each"""
    num_frames: PositiveInt = 16
    """frames sampled from one video"""
    max_bytes: PositiveInt = 2**36
    """size of one file"""
    max_duration_s: PositiveFloat = 7 * 24 * 3600.0
    """length of one video"""
    max_video_frames: PositiveInt = 20_000_000
    """frames of one video that are counted or decoded"""
    max_open_px: PositiveInt = 200_000_000
    """decoded pixels kept in memory per question, four bytes each; a single larger picture is allowed"""
    max_picture_bytes: PositiveInt = 2**31
    """size of one picture file"""
    max_header_bytes: PositiveInt = 2**28
    """bytes read before the pixels of a picture: tags, profiles, texts, previews"""
    max_decode_bytes: PositiveInt = 1_600_000_000
    """memory to decode one picture, or one video with its sampled frames, estimated from its header"""
    max_decode_s: PositiveFloat = 8.0
    """CPU time to read or decode one media item; large files get more (`media.limits.Deadline`)"""

    def within(self, other: MediaLimits) -> MediaLimits:
        """Return the stricter value of each limit, for limits from a file."""
        names = type(self).model_fields.keys() - {"num_frames"}  # a setting, not a safety limit
        values = {name: (getattr(self, name), getattr(other, name)) for name in names}
        stricter = {name: min(one, two) for name, (one, two) in values.items() if one is not None}
        return self.model_copy(update=stricter)

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        unchanged = (name for name in _NEW_MEDIA_LIMITS if getattr(self, name) == _default(name))
        for name in unchanged:
            fields.pop(name, None)
        return fields


_NEW_MEDIA_LIMITS = (
    *("max_bytes", "max_duration_s", "max_video_frames", "max_open_px"),
    *("max_picture_bytes", "max_header_bytes", "max_decode_bytes", "max_decode_s"),
)
"""limits that are new since schema version 1"""


def _default(name: str) -> Any:
    return MediaLimits.model_fields[name].default


DEFAULT_MEDIA_LIMITS = MediaLimits()


class SamplingParams(Record):
    """Sampling parameters of one request, with the names of vLLM."""

    max_new_tokens: int = 1024
    max_context_tokens: int = 32_768
    """maximum tokens of a conversation; the limit of the model also applies"""
    temperature: float = 0.0
    """0 for greedy decoding"""
    top_p: float = 1.0
    seed: int = 0
    """random seed; the same questions with the same seed give the same texts"""


class RolloutLimits(Record):
    """Limits that end a rollout."""

    max_turns: int = 6
    """assistant messages"""
    max_pictures: int = 32
    """pictures of the question plus results of operations"""


DEFAULT_OPERATIONS = ("zoom_in", "select_frames")
"""operations that are enabled by default"""


def _operation_names(value: Any) -> Any:
    """Convert True to the default operations and False to none."""
    if isinstance(value, bool):
        return DEFAULT_OPERATIONS if value else ()
    return value


OperationNames = Annotated[tuple[str, ...], BeforeValidator(_operation_names)]


class Control(StrEnum):
    """Control condition of a rollout (`rollout.controls`)."""

    FORBIDDEN = "forbidden"
    """no operations"""
    FORCED = "forced"
    """an answer before any operation is rejected"""
    RANDOM_CROP = "random-crop"
    """operations show a random region of equal size"""
    BLANK = "blank"
    """results of operations are grey"""
    ORACLE = "oracle"
    """the evidence is shown first"""
    TILING = "tiling"
    """tiles of the pictures instead of operations"""


class RolloutConfig(Record):
    """Settings of a rollout other than the model and the question.

    >>> RolloutConfig(operations=False).operations
    ()
    """

    operations: OperationNames = DEFAULT_OPERATIONS
    """names of the enabled operations; if empty, a call ends the rollout without an answer"""
    limits: RolloutLimits = RolloutLimits()
    sampling: SamplingParams = SamplingParams()
    media: MediaLimits = MediaLimits()
    perturb: bool = False
    """whether the first executed call is replaced by an off-target call (`rollout.hooks`)"""
    control: Control | None = None
    """control condition; None: the model decides"""
    strict: bool = False
    """whether malformed calls are rejected even where their meaning is certain (docs/dialects.md)"""
    budget: BudgetPolicy = "fixed"
    """how pixel budgets depend on the question (docs/strategies.md#adaptive-budgets)"""


class ModelInfo(Record):
    """Identity of a model: everything known to its backend that determines the outputs."""

    name: str = ""
    architecture: str = ""
    """transformers class, or the kind of backend"""
    parameters: int | None = None
    dtype: str = ""
    device: str = ""
    weights: str = ""
    """fingerprint of the weight files"""
    template: str = ""
    """fingerprint of the chat template"""
    served_as: str = ""
    """name at the server"""
    protocol: str = ""
    """format of tool calls in requests to a server: text or native"""
    tools: str = ""
    """fingerprint of the tool definitions in requests with native tool calls"""
    server: str = ""
    """kind of server"""


class SynthesisInfo(Record):
    """Origin of a synthesized trace."""

    version: int
    kind: str
    """template of the trace, for example `wrong_once`"""


class TrainingInfo(Record):
    """Training state of the policy that sampled a trace."""

    step: int
    """number of completed optimizer steps"""


class RunSettings(RolloutConfig):
    """Everything that determines an outcome: the rollout configuration, the model and its prompt format."""

    strict: bool = True
    """see `RolloutConfig`; True if it was not recorded, because older versions repaired nothing"""
    model: ModelInfo = ModelInfo()
    dialect: str = ""
    dialect_hash: str = ""
    """fingerprint of everything that the dialect adds to a prompt"""
    budgets: PixelBudgets | None = None
    synthesis: SynthesisInfo | None = None
    """set when the trace was synthesized"""
    training: TrainingInfo | None = None
    """set when the trace was sampled from a policy in training"""

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as JSON values. Unknown properties of the model are omitted."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return fields | {"model": self.model.model_dump(mode="json", exclude_defaults=True)}
