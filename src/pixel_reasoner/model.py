"""A loaded model that answers questions: what `pixel_reasoner.load` returns.

    model = load()                                    the bundled model; or a folder, a hub id, or servers
    trace = model.ask("Which letter?", "scene.png")   one question
    model.ask_many(questions)                         many, in one batch
    await model.ask_async(...), model.events(...)     in an event loop

All of them, in any thread, share one scheduler and so one batch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from typing_extensions import Unpack

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.inputs import media_items
from pixel_reasoner.models.api import GenerationModel, OnText
from pixel_reasoner.rollout import ask as rollouts
from pixel_reasoner.rollout.options import AskOptions, with_options
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.rollout.strategies import SINGLE, ask_by_strategy
from pixel_reasoner.schema.events import Event
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace

if TYPE_CHECKING:
    from pixel_reasoner.media.inputs import MediaInput

    Media = MediaInput | Sequence[MediaInput] | None


class Model:
    r"""A model that answers questions about pictures and videos.

    Args:
        generation_model: generates turns: of this process, behind servers, or of your own.
        config: limits, sampling and operations of its questions, where a call does not state them.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> from PIL import Image
    >>> model = Model(ScriptedModel([r"It is red. \boxed{red}"]))
    >>> model.ask("Which colour?", Image.new("RGB", (64, 64), "red")).answer
    'red'
    """

    def __init__(
        self, generation_model: GenerationModel, config: RolloutConfig | None = None
    ) -> None:
        self.generation_model = generation_model
        self.config = config or RolloutConfig()
        self._is_closed = False

    @property
    def name(self) -> str:
        """Name, folder or hub id."""
        return self.generation_model.name

    @property
    def dialect(self) -> str:
        """Name of the format in which it reads prompts and writes calls."""
        return self.generation_model.dialect

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else self.dialect
        return f"<Model {self.name}: {state}>"

    # --- questions ---

    def ask(  # noqa: PLR0913 - options of one question
        self,
        question: str | Question,
        media: Media = None,
        *,
        config: RolloutConfig | None = None,
        deadline_s: float | None = None,
        on_text: OnText | None = None,
        strategy: str = SINGLE,
        calibration: Path | None = None,
        **options: Unpack[AskOptions],
    ) -> Trace:
        r"""Answer one question.

        Args:
            question: text, or a `Question` with its media.
            media: path of a picture, a video or a folder of frames; PIL image; uint8 array of shape (height, width) or
                (height, width, 3 or 4); content of a file as bytes; or a list of these. Required with a text.
            config: limits, sampling and operations; by default those of the model.
            deadline_s: seconds after which the question is given up.
            on_text: called with each new piece of text while it is generated.
            strategy: how rollouts are combined, for example `majority_vote:k=8` (`rollout.strategies`); `deadline_s` and
                `on_text` are for `single`.
            calibration: file that calibrates the confidence of the strategy.
            **options: `max_turns`, `max_new_tokens`, `temperature`, `seed`, `operations` and others
                (`rollout.options.AskOptions`); they replace values of the configuration.

        Raises:
            InputError: a medium that cannot be used.
            UsageError: an empty question, a text without media, an unknown option, a value out of range, or the model is
                closed.
            DeadlineError: there is no answer within `deadline_s`.
            EndpointError: servers that do not answer.

        >>> import numpy as np
        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> model = Model(ScriptedModel([r"\boxed{0}"]))
        >>> trace = model.ask("How many?", np.zeros((64, 64, 3), np.uint8), max_turns=2)
        >>> trace.answer, trace.settings.limits.max_turns
        ('0', 2)
        """
        asked, model = self._question(question, media), self._open_model()
        config = with_options(config or self.config, options)
        if strategy != SINGLE:
            _check_single(strategy, deadline_s=deadline_s, on_text=on_text)
            return ask_by_strategy(strategy, asked, model, config, calibration=calibration)
        return rollouts.ask(
            asked,
            model,
            config,
            on_text=on_text,
            deadline_s=deadline_s,
        )

    def ask_many(
        self,
        questions: Iterable[Question],
        *,
        config: RolloutConfig | None = None,
        batch_size: int = 16,
        **options: Unpack[AskOptions],
    ) -> Iterator[Trace]:
        r"""Yield the traces of many questions as they finish, in no fixed order.

        Args:
            questions: may be a generator; they are read as they are needed.
            config: limits, sampling and operations; by default those of the model.
            batch_size: questions in progress at once.
            **options: as for `ask`.

        Raises:
            UsageError: the model is closed.
            EndpointError: servers that do not answer any more.

        A question whose media cannot be used gives a trace with `StopReason.FAILED`.

        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> model = Model(ScriptedModel([r"\boxed{red}"]))
        >>> [trace.answer for trace in model.ask_many([Question(id="1", text="Which colour?", media=())])]
        ['red']
        """
        changed = with_options(config or self.config, options)
        return rollouts.ask_many(questions, self._open_model(), changed, batch_size=batch_size)

    async def ask_async(
        self,
        question: str | Question,
        media: Media = None,
        *,
        config: RolloutConfig | None = None,
        deadline_s: float | None = None,
        **options: Unpack[AskOptions],
    ) -> Trace:
        r"""Answer one question in an event loop. Cancelling the task cancels the question.

        Args:
            question: text, or a `Question` with its media.
            media: as for `ask`.
            config: limits, sampling and operations; by default those of the model.
            deadline_s: seconds after which the question is given up.
            **options: as for `ask`.

        Raises:
            InputError: a medium that cannot be used.
            UsageError: an empty question, a text without media, an invalid option, or the model is closed.
            DeadlineError: there is no answer within `deadline_s`.

        >>> import asyncio
        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> from PIL import Image
        >>> with Model(ScriptedModel([r"\boxed{red}"])) as model:
        ...     asyncio.run(model.ask_async("Which colour?", Image.new("RGB", (64, 64), "red"))).answer
        'red'
        """
        return await rollouts.ask_async(
            self._question(question, media),
            self._open_model(),
            with_options(config or self.config, options),
            deadline_s=deadline_s,
        )

    async def events(
        self,
        question: str | Question,
        media: Media = None,
        *,
        config: RolloutConfig | None = None,
        deadline_s: float | None = None,
        **options: Unpack[AskOptions],
    ) -> AsyncGenerator[Event, None]:
        r"""Yield what happens while a question is answered: text, calls, results, at last `Finished` or `Failed`.

        Leaving the loop cancels the question. Arguments and errors are those of `ask_async`.

        >>> import asyncio
        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> from PIL import Image
        >>> async def kinds(model):
        ...     picture = Image.new("RGB", (64, 64), "red")
        ...     return [type(event).__name__ async for event in model.events("Which colour?", picture)]
        >>> with Model(ScriptedModel([r"\boxed{red}"])) as model:
        ...     sorted(set(asyncio.run(kinds(model))))
        ['Finished', 'GeneratedText', 'PartDelta', 'TurnDone', 'TurnStarted']
        """
        handle = self.submit(
            self._question(question, media), config, deadline_s=deadline_s, stream=True, **options
        )
        try:
            async with aclosing(handle.aevents()) as events:
                async for event in events:
                    yield event
        finally:
            handle.cancel()

    def submit(
        self,
        question: Question,
        config: RolloutConfig | None = None,
        *,
        deadline_s: float | None = None,
        priority: int = 0,
        stream: bool = False,
        **options: Unpack[AskOptions],
    ) -> RolloutHandle:
        r"""Start to answer a question, and return a handle with `result`, `events` and `cancel`.

        Args:
            question: with its media.
            config: limits, sampling and operations; by default those of the model.
            deadline_s: seconds after which the question is given up.
            priority: higher is served first.
            stream: whether `RolloutHandle.events` will be read.
            **options: as for `ask`.

        Raises:
            UsageError: the model is closed.
            QueueFullError: too many questions wait.

        >>> from pixel_reasoner.models.scripted import ScriptedModel
        >>> handle = Model(ScriptedModel([r"\boxed{red}"])).submit(Question(id="1", text="Which colour?", media=()))
        >>> handle.result().answer
        'red'
        """
        request = RolloutRequest(
            question=question,
            config=with_options(config or self.config, options),
            deadline_s=deadline_s,
            priority=priority,
            stream=stream,
        )
        return get_scheduler(self._open_model()).submit(request)

    # --- the end ---

    def close(self) -> None:
        """Cancel what is in progress and free the memory of the KV cache. A closed model answers no more questions."""
        if self._is_closed:
            return
        self._is_closed = True
        get_scheduler(self.generation_model).close()
        close = getattr(self.generation_model, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- arguments ---

    def _open_model(self) -> GenerationModel:
        if self._is_closed:
            raise UsageError(
                expected="a model that is open",
                got=f"{self.name}, which was closed",
                fix="load it again",
            )
        return self.generation_model

    def _question(self, question: str | Question, media: Media) -> Question:
        if isinstance(question, Question):
            if media is not None:
                raise UsageError(
                    expected="a text and its media, or a Question",
                    got="a Question and media",
                    fix="put the media into the Question",
                )
            return question
        if not isinstance(question, str) or not question.strip():
            raise UsageError(
                expected="a question", got=repr(question), fix='such as "What does the sign say?"'
            )
        items = media_items(media)
        if not items:
            raise UsageError(
                expected="a question about a picture or video",
                got="no media",
                fix="pass a picture or video; for a question without media pass a Question with media=()",
            )
        return Question(id=uuid4().hex[:12], text=question, media=items)


def _check_single(strategy: str, **arguments: object) -> None:
    """Raise an error if an argument is given that only the strategy `single` supports."""
    for name, value in arguments.items():
        if value is not None:
            raise UsageError(
                expected=f"{name} with the strategy {SINGLE}",
                got=f"{name} with {strategy!r}",
                fix="leave out one of them",
            )
