"""A rollout as an environment of TRL's tool loop: the album and the operations of a dialect, and a trace of what happened.

TRL generates a turn, asks `turn_reader` whether it calls an operation, hands it to `TrlToolEnv.operate`, and puts what comes back
into the context. Everything in between is `rollout.Rollout`: a rollout in training is the rollout of `ask`, and `finished_trace`
makes the same `Trace` of it.

TRL takes every public method of an environment for a tool. There is one, `operate`, and no model hears of it: what a model
may call, and how, its dialect tells it. It takes the whole turn as it was written, so a malformed call is answered as in
`ask`, and not dropped as TRL's own parser does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixel_reasoner.dialects import Answer, Message, get_dialect
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace

OPERATE = "operate"
"""the one tool, by the name of its method"""


class TrlToolEnv:
    """One rollout at a time, over and over."""

    def __init__(self, speaker: FolderSettings, rules: RolloutConfig, albums: MediaCache) -> None:
        self.speaker, self.rules, self.albums = speaker, rules, albums
        self.rollout: Rollout | None = None

    def reset(self, question: str, **row: Any) -> list[Message]:
        """Begin with the question of a row of the data set; returns what the user says and shows."""
        del row
        asked = Question.from_line(question)
        budgets = self.speaker.budgets or get_dialect(self.speaker.dialect).budgets
        album = self.albums.open(asked, budgets, self.rules.media)
        self.rollout = Rollout(asked, self.speaker, self.rules, album)
        parts: list[Message] = self.rollout.messages()[-1]["content"]
        return parts

    def operate(self, turn: str) -> list[dict[str, Any]]:
        """Execute the operation that a turn calls.

        Args:
            turn: The whole turn as the model wrote it.

        Returns:
            New pictures, or the reason why not.
        """
        assert self.rollout is not None, "reset comes first"
        self.rollout.take(Completion(text=turn), seconds=0.0)
        parts: list[Message] = self.rollout.messages()[-1]["content"]
        return parts


def opening_messages(
    speaker: FolderSettings, rules: RolloutConfig, media: tuple[MediaItem, ...] = ()
) -> list[Message]:
    """The messages that a rollout about some media begins with; the user's is empty until `TrlToolEnv.reset` fills it.

    >>> [message["role"] for message in opening_messages(FolderSettings(dialect="compact"), RolloutConfig())]
    ['system', 'user']
    """
    nothing = Question(id="", text="", media=media)
    dialect = get_dialect(speaker.dialect)
    messages = dialect.messages(
        nothing, (), (), lambda number: None, operations=bool(rules.operations)
    )
    return [*messages[:-1], {"role": "user", "content": []}]


def turn_reader(tokenizer: Any, dialect: str, end_tokens: Sequence[int]) -> Callable[..., Message]:
    """What TRL is to call in place of `tokenizer.parse_response`: does a turn call an operation, or try to?

    A turn that was cut off calls nothing, as in `ask`.
    """
    parse = get_dialect(dialect).parse

    def read(ids: Sequence[int], prefix: Any = None, tools: Any = None) -> Message:
        del prefix, tools
        ended = bool(ids) and ids[-1] in end_tokens
        text = tokenizer.decode(
            ids[:-1] if ended else ids,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        said = parse(text) if ended else None
        if said is None or isinstance(said, Answer):
            return {"role": "assistant", "content": text}
        function = {"name": OPERATE, "arguments": {"turn": text}}
        call = {"type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}

    return read


def finished_trace(environment: TrlToolEnv, completion: Sequence[Message], *, ended: bool) -> Trace:
    """The trace of a rollout that TRL has brought to its end.

    Args:
        environment: where it happened; it is free for the next one.
        completion: TRL's messages of the rollout, the model's and the operations'.
        ended: whether the last token ends a turn.
    """
    rollout, environment.rollout = environment.rollout, None
    assert rollout is not None, "a rollout is finished once"
    turns = sum(message["role"] == "assistant" for message in completion)
    if completion[-1]["role"] == "tool" or turns == len(rollout.turns):
        # What came back left no room for another turn, or did not fit itself and was taken back.
        rollout.stop = StopReason.MAX_CONTEXT
    else:
        rollout.take(Completion(text=_text(completion[-1]), truncated=not ended), seconds=0.0)
        rollout.stop = rollout.stop or StopReason.MAX_TURNS
    return rollout.trace(RunSettings())


def num_pictures_in_context(trace: Trace, completion: Sequence[Message]) -> int:
    """How many pictures stand in a rollout's context: those of the question and what came back to it."""
    replies = [message["content"] for message in completion if message["role"] == "tool"]
    returned = sum(part["type"] == "image" for parts in replies for part in parts)
    return len(trace.pictures) + returned


def _text(message: Message) -> str:
    calls = message.get("tool_calls")
    return str(calls[0]["function"]["arguments"]["turn"] if calls else message["content"])


_AS_SPOKEN = """\
{%- set ns = namespace(spoken=[]) -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- set ns.spoken = ns.spoken + [{'role': 'user', 'content': message.content}] -%}
{%- elif message.tool_calls -%}
{%- set said = namespace(text='') -%}
{%- for call in message.tool_calls -%}
{%- set said.text = said.text + (call.function.arguments.turn
    if call.function.arguments.turn is defined else call.function | tojson) -%}
{%- endfor -%}
{%- set ns.spoken = ns.spoken + [{'role': 'assistant', 'content': said.text}] -%}
{%- else -%}
{%- set ns.spoken = ns.spoken + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = ns.spoken -%}
{%- set tools = none -%}
"""


def as_dialect_template(template: str) -> str:
    """A chat template that renders TRL's tool messages as the dialects speak: replies come from the user, calls as written.

    Conversations without tools come out as before.
    """
    return _AS_SPOKEN + template


def patch_processor(processor: Any, dialect: str, end_tokens: Sequence[int] = ()) -> None:
    """Make a processor speak a dialect in TRL's tool loop: how messages are rendered, and how turns are read.

    Args:
        processor: of the model; changed in place.
        dialect: name of the dialect.
        end_tokens: that end a turn beside the tokenizer's own.
    """
    tokenizer = processor.tokenizer
    processor.chat_template = as_dialect_template(
        processor.chat_template or tokenizer.chat_template
    )
    tokenizer.response_template = {"dialect": dialect}  # TRL looks whether there is one
    tokenizer.parse_response = turn_reader(
        tokenizer, dialect, (tokenizer.eos_token_id, *end_tokens)
    )
