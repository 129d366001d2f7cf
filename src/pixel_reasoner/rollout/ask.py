"""Clients of the rollout scheduler.

`ask` answers one question, `ask_many` keeps a batch of questions in progress, `ask_async` is for event loops. All calls
from all threads share the scheduler of their model, and so one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from pixel_reasoner.errors import PixelReasonerError
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.models.api import GenerationModel, OnText
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.events import GeneratedText, TurnDone
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace

Progress = Callable[[Rollout], None]
"""called after every turn"""


def ask(
    question: Question,
    model: GenerationModel,
    config: RolloutConfig | None = None,
    *,
    on_text: OnText | None = None,
    on_turn: Progress | None = None,
    deadline_s: float | None = None,
) -> Trace:
    r"""Answer one question.

    Args:
        question: text and media.
        model: with a backend, or with `generate`.
        config: limits, sampling, enabled operations.
        on_text: called with each new piece of text while it is generated.
        on_turn: called with the rollout after each turn.
        deadline_s: time limit in seconds.

    Raises:
        InputError: an unusable picture or video.
        DeadlineError: there is no answer within `deadline_s`.

    >>> import tempfile; from PIL import Image; from pathlib import Path
    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> from pixel_reasoner.schema.question import MediaItem
    >>> path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (640, 480), "red").save(path)
    >>> question = Question(id="1", text="Which colour?", media=(MediaItem(kind="image", path=str(path)),))
    >>> ask(question, ScriptedModel([r"\boxed{red}"])).answer
    'red'
    """
    is_watched = on_text is not None or on_turn is not None
    request = RolloutRequest(
        question=question,
        config=config or RolloutConfig(),
        deadline_s=deadline_s,
        stream=is_watched,
    )
    handle = get_scheduler(model).submit(request)
    try:
        for event in handle.events() if is_watched else ():
            if on_text is not None and isinstance(event, GeneratedText):
                on_text(event.text)
            if on_turn is not None and isinstance(event, TurnDone) and handle.rollout is not None:
                on_turn(handle.rollout)
        return _answered(handle)
    finally:
        handle.cancel()


def ask_many(
    questions: Iterable[Question],
    model: GenerationModel,
    config: RolloutConfig | None = None,
    *,
    batch_size: int = 16,
) -> Iterator[Trace]:
    """Yield the traces of many questions as they finish, in no fixed order, with `batch_size` questions in progress.

    A model on a cluster has as many in progress per copy. A question with unusable media yields a trace with `StopReason.FAILED` and the reason. The others continue.

    Raises:
        EndpointError: all servers fail.
    """
    scheduler, config = get_scheduler(model), config or RolloutConfig()
    waiting, active = iter(questions), dict[str, RolloutHandle]()
    num_questions = batch_size * scheduler.num_copies
    try:
        while True:
            room = num_questions - len(active)
            for question in islice(waiting, room):
                handle = scheduler.submit(RolloutRequest(question=question, config=config))
                active[handle.id] = handle
            if not active:
                return
            scheduler.drive(lambda: any(one.is_done for one in active.values()))
            for handle in [one for one in active.values() if one.is_done]:
                del active[handle.id]
                yield _trace(handle)
    finally:
        for handle in active.values():
            handle.cancel()


async def ask_async(
    question: Question,
    model: GenerationModel,
    config: RolloutConfig | None = None,
    *,
    deadline_s: float | None = None,
) -> Trace:
    """Answer one question in an event loop; several calls share a batch. Cancelling the task cancels the request.

    Raises:
        InputError: an unusable picture or video.
        DeadlineError: there is no answer within `deadline_s`.
    """
    request = RolloutRequest(
        question=question, config=config or RolloutConfig(), deadline_s=deadline_s
    )
    handle = get_scheduler(model).submit(request)
    try:
        await handle.aresult()
        return _answered(handle)
    finally:
        handle.cancel()


def decode_with(model: GenerationModel, decoder: MediaDecoder) -> None:
    r"""Set the decoder for media of all further questions to a model, including evaluations.

    By default media are decoded in this process, within `MediaLimits`. Worker processes also protect against decoders
    that crash or never return.

    >>> from pixel_reasoner.media.worker_pool import WorkerPoolDecoder
    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> model = ScriptedModel([r"\boxed{red}"])
    >>> with WorkerPoolDecoder(num_workers=2) as decoder:
    ...     decode_with(model, decoder)
    ...     ask(Question(id="1", text="Which colour?", media=()), model).answer
    'red'
    """
    get_scheduler(model).decode_with(decoder)


def _answered(handle: RolloutHandle) -> Trace:
    """Return the trace of a request, or raise its error."""
    trace = handle.result()
    if handle.error is not None:
        raise handle.error
    return trace


def _trace(handle: RolloutHandle) -> Trace:
    """Return the trace of one request among many. Errors that are not specific to this request are raised."""
    error = handle.error
    if error is not None and (handle.is_fatal or not isinstance(error, PixelReasonerError)):
        raise error
    return handle.result()
