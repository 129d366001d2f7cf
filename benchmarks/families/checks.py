"""Checks of a model folder, through the same functions as users call: questions, one step of SFT, one of RL, a server.

A model with random weights calls no operation. So a script replaces its first turns, and the model writes the others, with all
pictures of the operations in its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.models.api import Completion, ContextFull, Messages, OnText
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import (
    MediaLimits,
    PixelBudget,
    PixelBudgets,
    RolloutConfig,
    RolloutLimits,
    SamplingParams,
)
from pixel_reasoner.schema.trace import Picture, ToolCall, Trace
from pixel_reasoner.train.distributed import module_groups
from pixel_reasoner.train.picture_inputs import visual_token_ids

CONFIG = RolloutConfig(
    sampling=SamplingParams(max_new_tokens=3, temperature=0.0),
    limits=RolloutLimits(max_turns=3),
    media=MediaLimits(num_frames=2),
)
SMALL = PixelBudget(min_px=64 * 64, max_px=128 * 128)
"""small pictures: the sizes of checkpoints would take seconds per picture"""


class ScriptedTurns:
    """Model whose first turns are a script. Every prompt is prepared as for the model itself.

    Args:
        model: writes the turns after the script.
        script: turns of each conversation.
    """

    def __init__(self, model: LocalModel, script: Sequence[str]) -> None:
        self.model, self.script = model, script
        self.name, self.dialect, self.budgets = model.name, model.dialect, model.budgets
        self.prompts: list[Messages] = []
        """conversations whose next turn the model wrote"""

    def generate(
        self,
        conversations: Sequence[Messages],
        decoding: SamplingParams,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """Return the next turn of each conversation."""
        turns: list[Completion | ContextFull | None] = [
            self._scripted(one) for one in conversations
        ]
        rest = [one for one, turn in zip(conversations, turns, strict=True) if turn is None]
        self.prompts += rest
        written = iter(self.model.generate(rest, decoding, on_text) if rest else ())
        return [next(written) if turn is None else turn for turn in turns]

    def _scripted(self, conversation: Messages) -> Completion | None:
        number = sum(message["role"] == "assistant" for message in conversation)
        return Completion(text=self.script[number]) if number < len(self.script) else None

    def describe(self) -> Any:
        """Return the identity of the model."""
        return self.model.describe()


def load(folder: Path, dialect: str | None = None) -> LocalModel:
    """Return the model of a folder, which makes small pictures."""
    model = LocalModel(str(folder), dialect=dialect)
    model.budgets = small_budgets(model)
    return model


def small_budgets(model: LocalModel) -> PixelBudgets:
    """Return small pixel budgets with the grid of a model."""
    budgets = model.budgets or get_dialect(model.dialect).budgets
    return PixelBudgets(
        picture=SMALL, crop=SMALL, frame=SMALL, selected_frame=SMALL, multiple=budgets.multiple
    )


def zoom(model: LocalModel, picture: int = 1) -> str:
    """Return a turn that zooms into a picture, as the dialect of a model writes it."""
    return _call(model, "zoom_in", {"bbox_2d": [0.25, 0.25, 0.75, 0.75], "target_image": picture})


def select(model: LocalModel) -> str:
    """Return a turn that selects a frame of a clip."""
    return _call(model, "select_frames", {"target_frames": [1]})


def _call(model: LocalModel, name: str, arguments: dict[str, Any]) -> str:
    first = Picture(number=1, medium=0, source_px=(96, 64), seen_px=(96, 64))
    second = first.model_copy(update={"number": 2, "parent": 1})
    call = ToolCall(name=name, arguments=arguments)
    return get_dialect(model.dialect).write_turn("I look closer.", call, [first, second])


def question(path: Path, text: str = "What is it?") -> Question:
    """Return a question about a picture or a clip."""
    kind = "video" if path.suffix == ".mp4" else "image"
    return Question(
        id=path.stem, text=text, media=(MediaItem(kind=kind, path=str(path)),), answer=("it",)
    )


def ask_with_zooms(model: LocalModel, photo: Path) -> tuple[Trace, Messages]:
    """Ask about a picture: a zoom, a zoom into the crop, and a turn of the model. Returns the trace and its last prompt."""
    scripted = ScriptedTurns(model, [zoom(model), zoom(model, 2)])
    trace = ask(question(photo), scripted, CONFIG)
    return trace, scripted.prompts[-1]


def ask_about_clip(model: LocalModel, clip: Path) -> tuple[Trace, Messages]:
    """Ask about a clip: a selected frame, and a turn of the model."""
    scripted = ScriptedTurns(model, [select(model)])
    trace = ask(question(clip), scripted, CONFIG)
    return trace, scripted.prompts[-1]


def ask_together(model: LocalModel, photo: Path) -> tuple[list[str], list[str]]:
    """Ask a question without a crop and one with a crop, one by one and in a batch. Returns the texts of the last turns."""
    questions = [question(photo), question(photo, "And what is here, in some more words?")]
    single = [ask(one, ScriptedTurns(model, [zoom(model)]), CONFIG) for one in questions]
    together = ask_many(questions, ScriptedTurns(model, [zoom(model)]), CONFIG)
    found = {trace.question.text: trace for trace in together}
    batched = [found[one.text] for one in questions]
    return [one.turns[-1].text for one in single], [one.turns[-1].text for one in batched]


@torch.inference_mode()
def pictures_that_reach_the_model(model: LocalModel, prompt: Messages) -> list[bool]:
    """Return for each picture of a prompt whether the next token depends on its pixels."""
    whole = _logits(model, prompt)
    places = [
        (message, part)
        for message in prompt
        for part in message["content"]
        if part["type"] == "image"
    ]
    reached = []
    for _, part in places:
        kept = part["image"]
        part["image"] = Image.new("RGB", kept.size, (250, 20, 20))
        reached.append(not torch.equal(_logits(model, prompt), whole))
        part["image"] = kept
    return reached


def _logits(model: LocalModel, prompt: Messages) -> torch.Tensor:
    inputs = model.prompt_inputs([prompt])
    logits: torch.Tensor = model.model(**inputs).logits[0, -1]
    return logits


@torch.inference_mode()
def visual_tokens(model: LocalModel, prompt: Messages) -> tuple[int, int]:
    """Return the number of placeholders in the ids of a prompt, and of those that the model replaces by a feature."""
    inputs = model.prompt_inputs([prompt])
    marks = torch.isin(inputs["input_ids"], torch.tensor(visual_token_ids(model.model.config)))
    embeds: list[torch.Tensor] = []

    def keep(module: Any, args: Any, kwargs: Any) -> None:
        embeds.append(kwargs["inputs_embeds"] if "inputs_embeds" in kwargs else args[0])

    language = module_groups(model.model).language
    # The decoder of Phi-4 computes its embeddings itself.
    place = language.layers[0] if model.model.config.model_type == "phi4_multimodal" else language
    hook = place.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        model.model(**inputs)
    finally:
        hook.remove()
    table = model.model.get_input_embeddings()(inputs["input_ids"])
    replaced = (embeds[0] != table).any(dim=-1)
    return int(marks.sum()), int((replaced & marks).sum())
