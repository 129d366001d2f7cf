"""TRL's own trainer and tool loop with our operations and rewards: baseline of `benchmarks/rl.py` and reference of tests.

TRL generates a turn, parses it with `turn_parser`, executes `TrlToolEnv.operate`, and appends the result to the context.
TRL uses every public method of an environment as a tool. This environment has one, `operate`, and the prompt does not contain it: the
dialect writes the tool definitions. Its argument is the whole generated turn, so that a malformed call gets the same tool error as in
`ask`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from trl import GRPOTrainer

from pixel_reasoner.dialects import Message, get_dialect
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring import rewards
from pixel_reasoner.train.config import RlRun

OPERATE = "operate"
"""name of the one tool"""


class StockTrainer(GRPOTrainer):
    """A `GRPOTrainer` with our rewards; all rollouts of a group are in one process."""

    def __init__(
        self, *, run: RlRun, model_settings: FolderSettings, config: RolloutConfig, **trl: Any
    ) -> None:
        tokenizer = trl["processing_class"].tokenizer
        patch_processor(trl["processing_class"], model_settings.dialect)
        trl["args"].max_tool_calling_iterations = run.max_turns - 1
        contexts = MediaCache(max_entries=32)

        def reward(
            environments: Any, completions: Any, completion_ids: Any, **_: Any
        ) -> list[float]:
            traces = [
                finished_trace(one, messages, ended=ids[-1] == tokenizer.eos_token_id)
                for one, messages, ids in zip(
                    environments, completions, completion_ids, strict=True
                )
            ]
            shaped: list[float] = []
            for start in range(0, len(traces), run.group_size):
                group = traces[start : start + run.group_size]
                correct = [rewards.correctness(one, run.reward) for one in group]
                counted = [rewards.num_operations(one, run.reward) for one in group]
                shaped += rewards.shape_rewards(correct, counted, run.reward)
            return shaped

        super().__init__(
            reward_funcs=[reward],
            environment_factory=partial(TrlToolEnv, model_settings, config, contexts),
            **trl,
        )


class TrlToolEnv:
    """Environment of TRL's tool loop; reused from rollout to rollout."""

    def __init__(
        self, model_settings: FolderSettings, config: RolloutConfig, contexts: MediaCache
    ) -> None:
        self.model_settings, self.config, self.contexts = model_settings, config, contexts
        self.rollout: Rollout | None = None

    def reset(self, question: str, **row: Any) -> list[Message]:
        """Start a rollout and return the content of the user message."""
        del row
        asked = Question.from_line(question)
        budgets = self.model_settings.budgets or get_dialect(self.model_settings.dialect).budgets
        context = self.contexts.open(asked, budgets, self.config.media)
        self.rollout = Rollout(asked, self.model_settings, self.config, context)
        parts: list[Message] = self.rollout.messages()[-1]["content"]
        return parts

    def operate(self, turn: str) -> list[dict[str, Any]]:
        """Execute the operation that a turn calls.

        Args:
            turn: The whole turn as it was generated.

        Returns:
            New pictures, or the tool error.
        """
        assert self.rollout is not None, "reset comes first"
        self.rollout.take(Completion(text=turn), seconds=0.0)
        parts: list[Message] = self.rollout.messages()[-1]["content"]
        return parts


def stock_rows(
    questions: Iterable[Question], model_settings: FolderSettings, config: RolloutConfig
) -> Dataset:
    """Return questions as rows of a data set: the first messages, and the question for `TrlToolEnv.reset`."""
    questions = list(questions)
    prompts = [first_messages(model_settings, config, one.media) for one in questions]
    lines = [question.to_line() for question in questions]
    return Dataset.from_dict({"prompt": prompts, "question": lines})


def first_messages(
    model_settings: FolderSettings, config: RolloutConfig, media: tuple[MediaItem, ...] = ()
) -> list[Message]:
    """Return the first messages of a rollout; `TrlToolEnv.reset` returns the content of the user's.

    >>> [message["role"] for message in first_messages(FolderSettings(dialect="compact"), RolloutConfig())]
    ['system', 'user']
    """
    empty = Question(id="", text="", media=media)
    dialect = get_dialect(model_settings.dialect)
    messages = dialect.messages(
        empty, (), (), lambda number: None, operations=bool(config.operations)
    )
    return [*messages[:-1], {"role": "user", "content": []}]


def turn_parser(tokenizer: Any, dialect: str, end_tokens: Sequence[int]) -> Callable[..., Message]:
    """Return a replacement of `tokenizer.parse_response`, which returns a tool call for every turn that tries to call.

    A truncated turn contains no call, as in `ask`.
    """
    parse = get_dialect(dialect).parse

    def parse_response(ids: Sequence[int], prefix: Any = None, tools: Any = None) -> Message:
        del prefix, tools
        ended = bool(ids) and ids[-1] in end_tokens
        text = tokenizer.decode(
            ids[:-1] if ended else ids,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        parsed = parse(text) if ended else None
        if parsed is None or not parsed.has_attempted_call:
            return {"role": "assistant", "content": text}
        function = {"name": OPERATE, "arguments": {"turn": text}}
        call = {"type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}

    return parse_response


def finished_trace(environment: TrlToolEnv, completion: Sequence[Message], *, ended: bool) -> Trace:
    """Return the trace of a rollout that TRL has finished.

    Args:
        environment: of the rollout; it can be reset afterwards.
        completion: TRL's messages of the rollout.
        ended: whether the last token ends a turn.
    """
    rollout, environment.rollout = environment.rollout, None
    assert rollout is not None, "a rollout is finished once"
    turns = sum(message["role"] == "assistant" for message in completion)
    if completion[-1]["role"] == "tool" or turns == len(rollout.turns):
        # The last result left no room for another turn, or was removed because it did not fit.
        rollout.stop = StopReason.MAX_CONTEXT
    else:
        text = _text(completion[-1])
        rollout.take(Completion(text=text, truncated=not ended), seconds=0.0)
        rollout.stop = rollout.stop or StopReason.MAX_TURNS
    return rollout.trace(RunSettings(dialect=environment.model_settings.dialect))


def _text(message: Message) -> str:
    calls = message.get("tool_calls")
    return str(calls[0]["function"]["arguments"]["turn"] if calls else message["content"])


_DIALECT_MESSAGES = """\
{%- set ns = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- set ns.messages = ns.messages + [{'role': 'user', 'content': message.content}] -%}
{%- elif message.tool_calls -%}
{%- set turn = namespace(text='') -%}
{%- for call in message.tool_calls -%}
{%- set turn.text = turn.text + (call.function.arguments.turn
    if call.function.arguments.turn is defined else call.function | tojson) -%}
{%- endfor -%}
{%- set ns.messages = ns.messages + [{'role': 'assistant', 'content': turn.text}] -%}
{%- else -%}
{%- set ns.messages = ns.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = ns.messages -%}
{%- set tools = none -%}
"""


def dialect_template(template: str) -> str:
    """Return a chat template that renders TRL's tool messages as dialects do: results are user messages, calls verbatim."""
    return _DIALECT_MESSAGES + template


def patch_processor(processor: Any, dialect: str, end_tokens: Sequence[int] = ()) -> None:
    """Set the chat template and the response parser of a processor for TRL's tool loop.

    Args:
        processor: of the model; changed in place.
        dialect: name of the dialect.
        end_tokens: that end a turn, besides the tokenizer's own.
    """
    tokenizer = processor.tokenizer
    processor.chat_template = dialect_template(processor.chat_template or tokenizer.chat_template)
    tokenizer.response_template = {"dialect": dialect}  # TRL checks whether the attribute exists
    tokenizer.parse_response = turn_parser(
        tokenizer, dialect, (tokenizer.eos_token_id, *end_tokens)
    )
