"""Typed settings of a rollout: pixel budgets, media limits, sampling parameters, rollout limits."""

from __future__ import annotations

from pydantic import PositiveInt

from pixel_reasoner.schema.record import Record


class PixelBudget(Record):
    """A range of pixels for one kind of picture."""

    min_px: int
    max_px: int

    def at_most(self, max_px: int | None) -> PixelBudget:
        """This budget with another upper end; None leaves it.

        >>> PixelBudget(min_px=400, max_px=900).at_most(100)
        PixelBudget(min_px=100, max_px=100)
        """
        if max_px is None:
            return self
        return PixelBudget(min_px=min(self.min_px, max_px), max_px=max_px)

    def within(self, min_px: int, max_px: int) -> PixelBudget:
        """This budget, both ends moved into a range.

        >>> PixelBudget(min_px=400, max_px=900).within(500, 700)
        PixelBudget(min_px=500, max_px=700)
        """
        low, high = (min(max(end, min_px), max_px) for end in (self.min_px, self.max_px))
        return PixelBudget(min_px=low, max_px=high)


class PixelBudgets(Record):
    """What a model sees of each kind of picture."""

    picture: PixelBudget
    """the overview of a picture"""
    crop: PixelBudget
    """the result of `zoom_in`"""
    frame: PixelBudget
    """a sampled frame of a video, in the overview"""
    selected_frame: PixelBudget
    """the result of `select_frames`"""
    multiple: int
    """sides are whole multiples of this many pixels"""

    def at_most(self, overview_px: int | None, result_px: int | None) -> PixelBudgets:
        """These budgets with other upper ends for overviews of pictures and for what operations return; None leaves one."""
        return self.model_copy(
            update={
                "picture": self.picture.at_most(overview_px),
                "crop": self.crop.at_most(result_px),
                "selected_frame": self.selected_frame.at_most(result_px),
            }
        )

    def within(self, min_px: int, max_px: int) -> PixelBudgets:
        """These budgets, all of them moved into a range."""
        kinds = ("picture", "crop", "frame", "selected_frame")
        return self.model_copy(
            update={kind: getattr(self, kind).within(min_px, max_px) for kind in kinds}
        )


class MediaLimits(Record):
    """How much is read of what the user brought."""

    max_px: PositiveInt = 200_000_000
    """pixels of one picture or frame; three to four bytes of memory each"""
    num_frames: PositiveInt = 16
    """frames sampled from one video"""


DEFAULT_MEDIA_LIMITS = MediaLimits()


class SamplingParams(Record):
    """How text is generated."""

    max_new_tokens: int = 1024
    max_context_tokens: int = 32_768
    """a conversation longer than this is not continued; a model's own limit counts too"""
    temperature: float = 0.0
    """0 is greedy"""
    top_p: float = 1.0
    seed: int = 0
    """of sampling; the same questions with the same seed give the same texts"""


class RolloutLimits(Record):
    """When a rollout ends at the latest."""

    max_turns: int = 6
    """messages of the model"""
    max_pictures: int = 32
    """pictures of the question and results of operations together"""


class RolloutConfig(Record):
    """Everything besides the model and the question that decides a rollout."""

    operations: bool = True
    """whether operations are offered; without them a call ends the rollout unanswered"""
    limits: RolloutLimits = RolloutLimits()
    decoding: SamplingParams = SamplingParams()
    decode: MediaLimits = MediaLimits()
    disturb: bool = False
    """whether the first look is replaced by one that misses the evidence (see `disturb`)"""
