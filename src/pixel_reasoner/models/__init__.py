"""The seam between the loop and whatever generates text: one method.

    Model.generate(conversations, decoding, on_text) -> completions

`scripted` says what it is told to (tests, docs), `local` runs any transformers image-text-to-text model.

A model may have a second one: `session(decoding)`, turns of many conversations side by side. A conversation whose turn is
finished goes on at once, while the others are still writing. Without it they move in rounds.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pydantic import ValidationError

from pixel_reasoner.budget import Budgets
from pixel_reasoner.dialects import dialect_for, dialect_named
from pixel_reasoner.errors import ModelError, PixelReasonerError
from pixel_reasoner.trace import Record

Conversation = list[dict[str, Any]]
"""chat messages; pictures are `{"type": "image", "image": PIL.Image}`"""

OnText = Callable[[str], None]
"""called with each new piece of text while it is generated"""


def pictures_of(conversation: Conversation) -> list[Any]:
    """All pictures of a conversation, in the order in which they are shown."""
    return [
        part["image"]
        for message in conversation
        if not isinstance(message["content"], str)
        for part in message["content"]
        if part["type"] == "image"
    ]


class Decoding(Record):
    """How text is generated."""

    max_new_tokens: int = 1024
    max_context_tokens: int = 32_768
    """a conversation longer than this is not continued; a model's own limit counts too"""
    temperature: float = 0.0
    """0 is greedy"""
    top_p: float = 1.0
    seed: int = 0
    """of sampling; the same questions with the same seed give the same texts"""


class Completion(NamedTuple):
    """What a model wrote in one turn."""

    text: str
    """without the end token"""
    truncated: bool = False
    """cut off by a limit before the end token came"""
    token_ids: array[int] = array("i")
    """what was generated, the end token included"""
    logprobs: array[float] = array("f")
    """of each generated token under the distribution it was drawn from"""
    num_prompt_tokens: int = 0


class ContextFull(NamedTuple):
    """Instead of a completion: the conversation leaves no room for another turn."""

    num_prompt_tokens: int
    limit: int


class FolderSettings(Record):
    """What `pixel_reasoner.json` in a model folder may say."""

    dialect: str = "pixel_reasoner"
    """where the file does not say, what `dialect_for` makes of the model's name, config and chat template"""
    budgets: Budgets | None = None
    note: str = ""
    """one line for whoever asks this model"""


EMBEDDED = {"tiny": Path(__file__).parents[1] / "tiny" / "weights"}
"""names of models that are in the package"""


def model_folder(source: str) -> Path:
    """Where a model lies that is named by the name of an embedded one or by its folder."""
    return EMBEDDED.get(source, Path(source))


def model_source(name: str) -> str:
    """What transformers is to load for a name: the folder of an embedded model, a folder, or a hub id as it is."""
    folder = model_folder(name)
    return str(folder) if folder.is_dir() else name


def folder_settings(
    folder: Path, dialect: str | None = None, *, config: Mapping[str, Any] | None = None
) -> FolderSettings:
    """How a model is to be asked: as its folder says, and where it says nothing, by what the model looks like.

    Budgets are those that the folder's image processor leaves as they are (`processable`).

    Args:
        folder: of the model, or its hub id.
        dialect: overrides whatever the folder says.
        config: of a model whose folder is not at hand.

    Raises:
        ModelError: its `pixel_reasoner.json` cannot be read.
        UsageError: no dialect of that name; nothing is said, and two dialects fit.
    """
    settings = _said(folder / "pixel_reasoner.json")
    if dialect is None and "dialect" not in settings.model_fields_set:
        config = config or _json(folder / "config.json")
        dialect = dialect_for(str(folder), config, _template(folder)).name
    if dialect:
        settings = settings.model_copy(update={"dialect": dialect})
    return settings.model_copy(update={"budgets": processable(settings, _image_processor(folder))})


def processable(settings: FolderSettings, image_processor: Any) -> Budgets | None:
    """Budgets that a model's own image processor leaves as they are: pictures that it scaled once more would have other coordinates.

    None, for the dialect's, where those fit or it does not count in pixels.
    """
    budgets = settings.budgets or dialect_named(settings.dialect).budgets
    size = getattr(image_processor, "size", None) or {}
    least, most = size.get("shortest_edge"), size.get("longest_edge")
    counts_pixels = hasattr(image_processor, "merge_size")  # Qwen-VL's do
    if not counts_pixels or least is None or most is None:
        return settings.budgets
    fitting = budgets.within(least, most)
    return settings.budgets if fitting == budgets else fitting


def _image_processor(folder: Path) -> Any:
    """What a folder says of its image processor, with the older names of its limits under the newer ones."""
    said = _json(folder / "preprocessor_config.json")
    said = said or _json(folder / "processor_config.json").get("image_processor") or {}
    ends = {"shortest_edge": said.get("min_pixels"), "longest_edge": said.get("max_pixels")}
    size = dict(said.get("size") or {}) | {name: px for name, px in ends.items() if px}
    return SimpleNamespace(**{**said, "size": size})


def _said(path: Path) -> FolderSettings:
    """What a folder says of its own accord."""
    if not path.is_file():
        return FolderSettings()
    try:
        return FolderSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ModelError(
            expected=f"{path} with dialect, budgets and note",
            got=str(error).splitlines()[0],
            fix="mend or delete this file",
        ) from error


def _json(path: Path) -> dict[str, Any]:
    """An object of a model's folder; empty where it is missing or broken, which whoever loads the model will tell."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _template(folder: Path) -> str:
    """The chat template of a model's folder."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        names = ("chat_template.json", "tokenizer_config.json")
        return next(
            (str(t) for name in names if (t := _json(folder / name).get("chat_template"))), ""
        )


class Model(Protocol):
    """Anything that continues conversations."""

    name: str
    dialect: str
    """name of the dialect that it speaks"""
    budgets: Budgets | None
    """what it was trained to see; None for the dialect's defaults"""

    def generate(
        self,
        conversations: Sequence[Conversation],
        decoding: Decoding,
        on_text: OnText | None = None,
    ) -> list[Completion | ContextFull]:
        """One turn for each conversation, in order. `on_text` needs a single conversation."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides its outputs, for `Trace.settings`."""
        ...


Finished = tuple[Any, Completion | ContextFull | PixelReasonerError, float]
"""the key of a conversation, its turn or why there is none, and the seconds that are its share"""


class Turns(Protocol):
    """Turns of many conversations."""

    fill: float
    """share of a batch that is worth waiting for before `done` is called, while pictures are opened"""
    room: float
    """share of a batch that is to be free before pictures are opened: those that are opened while `done` is at work take its cores"""

    def add(self, key: Any, conversation: Conversation) -> None:
        """Ask for the next turn of a conversation; `key` names it from turn to turn."""

    def done(self) -> list[Finished]:
        """The turns that are finished next, at least one of those that were asked for."""
        ...

    def end(self, key: Any) -> None:
        """A conversation is over."""


@runtime_checkable
class SideBySide(Protocol):
    """A model with turns of its own kind."""

    def session(self, decoding: Decoding) -> Turns:
        """Turns of many conversations, until this is dropped."""
        ...


class Rounds:
    """Turns of any model: one call of it for all conversations that wait."""

    fill, room = 1.0, 0.0

    def __init__(self, model: Model, decoding: Decoding) -> None:
        self.model, self.decoding = model, decoding
        self.waiting: dict[Any, Conversation] = {}

    def add(self, key: Any, conversation: Conversation) -> None:
        """Ask for the next turn of a conversation."""
        self.waiting[key] = conversation

    def done(self) -> list[Finished]:
        """The turns of all that wait, in the order of their keys: not in that in which pictures happened to be open."""
        waiting, self.waiting = dict(sorted(self.waiting.items())), {}
        started = time.perf_counter()
        completions = self.model.generate(list(waiting.values()), self.decoding)
        share = (time.perf_counter() - started) / max(1, len(waiting))
        return [(key, said, share) for key, said in zip(waiting, completions, strict=True)]

    def end(self, key: Any) -> None:
        """Nothing is kept of a conversation."""


def turns_of(model: Model, decoding: Decoding) -> Turns:
    """A model's turns of many conversations: its own kind, or rounds."""
    if isinstance(model, SideBySide):
        return model.session(decoding)
    return Rounds(model, decoding)
