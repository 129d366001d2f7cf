"""Reward of single calls: how much more probable the accepted answer is after a result than before it.

A frozen reader, the initial model of the run, reads the conversation up to each turn. The score of a turn is the mean
log-probability of the tokens of the accepted answer, in the last finding of the question if it has one (`Evidence`): a
small model that always describes what it sees before it answers says nothing without these words. A call is paid by the
rise of the score, so aim is learned without annotated boxes. The payment reaches the tokens of the call alone: words and
answers keep the advantage of the rollout.

The rise is the score in the turn after the call, minus a baseline (`reward.delta_baseline`):

    none        the score in the turn of the call. Any result may raise it, because the conversation now has one.
    elsewhere   the score in the turn after the call if its result shows other pixels of equal size. A call is paid for
    twin        what its own pixels say about the answer (`train.counterfactuals`). Without such pixels the rise is 0.

Sources: the rise per turn follows IGPO (arXiv 2510.14967), the frozen reader that scores crops follows CropVLM
(arXiv 2511.19820).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pixel_reasoner.dialects import Dialect, get_dialect
from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Text, Thought, ToolCall, Trace, Turn
from pixel_reasoner.train import distributed
from pixel_reasoner.train.counterfactuals import counterfactual_of
from pixel_reasoner.train.rollouts.generator import GeneratedRollout
from pixel_reasoner.train.samples import (
    CALL_ADVANTAGES,
    SequenceDraft,
    TokenSequence,
    token_sequences,
)

MIN_SCORE = -7.0
"""lowest score: a thousandth per token. Differences between impossible answers are noise"""
_MIN_SPREAD = 1e-3
"""standard deviation of the rises in a group below which no call gets an advantage"""


_Key = tuple[int, int, bool]
"""rollout, turn, and whether the pixels are counterfactual"""


class TurnPlace(NamedTuple):
    """Position of a generated turn in the sequences of a rollout."""

    sequence: int
    start: int
    """first token of the turn in its completion"""
    end: int
    """end (exclusive)"""


class CallAdvantages:
    """Advantages of the tokens of calls.

    Args:
        trainer: trainer with the policy.
        weight: factor on the normalized rises.
    """

    def __init__(self, trainer: Any, weight: float) -> None:
        self.trainer, self.weight = trainer, weight
        self.reader, self._without_adapter = _frozen_reader(trainer)
        baseline, twins = trainer.run.reward.delta_baseline, Path(trainer.run.out) / "twins"
        self.counterfactual = counterfactual_of(baseline, twins)
        self.dialect = get_dialect(trainer.model_settings.dialect)
        self.tokenizer = trainer.processing_class.tokenizer

    def of_rollouts(
        self, rollouts: Sequence[GeneratedRollout], group_size: int, batch_size: int
    ) -> list[list[torch.Tensor]]:
        """Return the (completion,) advantages of every sequence of every rollout: 0 outside of calls. Logs the mean rise.

        Args:
            rollouts: whole groups, in order.
            group_size: rollouts per group.
            batch_size: sequences per forward pass.
        """
        distributed.check_whole_groups(len(rollouts), group_size, "reward.delta")
        rises = self.rises(rollouts, batch_size)
        self._log([rise for one in rises for rise in one.values()])
        normalized = [
            values
            for start in range(0, len(rollouts), group_size)
            for values in normalize_rises(rises[start : start + group_size])
        ]
        return [self._spread(*pair) for pair in zip(rollouts, normalized, strict=True)]

    def rises(
        self, rollouts: Sequence[GeneratedRollout], batch_size: int
    ) -> list[dict[int, float]]:
        """Return for each rollout: number of a turn with an executed call -> rise of the score."""
        asked: dict[_Key, tuple[TokenSequence, Trace]] = {}
        baselines: dict[tuple[int, int], _Key] = {}
        """rollout and turn of a call -> what its score is compared with"""
        for number, rollout in enumerate(rollouts):
            for turn in paid_turns(rollout):
                after = self._answer_at(rollout, turn + 1)
                asked[number, turn + 1, False] = after, rollout.trace
                key = baselines[number, turn] = self._baseline_key(number, turn)
                if self.counterfactual is None:
                    asked[key] = self._answer_at(rollout, turn), rollout.trace
                elif (other := self.counterfactual(rollout.trace, turn)) is not None:
                    asked[key] = after, other
        found = dict(zip(asked, self._scores(list(asked.values()), batch_size), strict=True))
        rises: list[dict[int, float]] = [{} for _ in rollouts]
        for (number, turn), key in baselines.items():
            score = found[number, turn + 1, False]
            rises[number][turn] = score - found.get(key, score)
        self._log_missing(sum(key not in found for key in baselines.values()), len(baselines))
        return rises

    def _baseline_key(self, number: int, turn: int) -> _Key:
        is_counterfactual = self.counterfactual is not None
        return number, turn + is_counterfactual, is_counterfactual

    def _log_missing(self, num_missing: int, num_calls: int) -> None:
        """Log the share of calls without a counterfactual, over all processes."""
        if self.counterfactual is None:
            return
        missing, count = (
            distributed.gather_sum(one, self.trainer) for one in (num_missing, num_calls)
        )
        if count:
            share = float(missing / count)
            self.trainer._metrics["train"]["calls/without_baseline"].append(share)

    def _log(self, rises: list[float]) -> None:
        """Log the mean rise over all processes, which have different numbers of calls."""
        total, count = (distributed.gather_sum(x, self.trainer) for x in (sum(rises), len(rises)))
        if count:
            self.trainer._metrics["train"]["calls/rise"].append(float(total / count))

    def _answer_at(self, rollout: GeneratedRollout, turn: int) -> TokenSequence:
        """Return the accepted answer in place of a turn. Its loss mask covers the answer where it is said first."""
        trace, place = rollout.trace, turn_places(rollout.sequences)[turn]
        draft = rollout.sequences[place.sequence]
        before, answer = encode_answer(trace.question, self.dialect, self.tokenizer)
        turn_draft = SequenceDraft(
            draft.prompt_ids + draft.completion_ids[: place.start], _num_pictures(trace, turn)
        )
        turn_draft.add_context(before, turn_draft.num_pictures)
        turn_draft.add_turn(answer, [0.0] * len(answer))
        return token_sequences([turn_draft], {})[0]

    @torch.no_grad()
    def _scores(
        self, answers: Sequence[tuple[TokenSequence, Trace]], batch_size: int
    ) -> list[float]:
        scores: list[float] = []
        with self._without_adapter():
            for start in range(0, len(answers), batch_size):
                sequences, traces = zip(*answers[start : start + batch_size], strict=True)
                logprobs = self.trainer.logprobs_of_sequences(self.reader, sequences, traces)
                for values, one in zip(logprobs, sequences, strict=True):
                    mean = values[: len(one.completion_ids)][one.loss_mask].mean().item()
                    scores.append(max(mean, MIN_SCORE))
        return scores

    def _spread(self, rollout: GeneratedRollout, values: dict[int, float]) -> list[torch.Tensor]:
        advantages = [torch.zeros(len(one.completion_ids)) for one in rollout.sequences]
        for turn, place in enumerate(turn_places(rollout.sequences)):
            if turn in values:
                ids = rollout.sequences[place.sequence].completion_ids[place.start : place.end]
                first = place.start + call_start(
                    rollout.trace.turns[turn], ids, self.tokenizer.decode
                )
                advantages[place.sequence][first : place.end] = self.weight * values[turn]
        return advantages


def encode_answer(
    question: Question, dialect: Dialect, tokenizer: Any
) -> tuple[list[int], list[int]]:
    """Return the token ids of an answer in the words of the question's last finding: those before it, and its own."""
    answer = question.answer[0]
    findings = question.evidence.findings if question.evidence is not None else ()
    words = f"{findings[-1][:1].upper()}{findings[-1][1:]}." if findings else ""
    text = dialect.write_turn(words, answer=answer)
    # Tokens may join the answer with characters around it: it starts where both encodings differ.
    word = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    start = word.start() if word else text.rindex(answer)
    whole, before, until = (
        list(tokenizer(part, add_special_tokens=False)["input_ids"])
        for part in (text, text[:start], text[: start + len(answer)])
    )
    pairs = enumerate(zip(whole, before, strict=False))
    shared = next((n for n, (one, other) in pairs if one != other), min(len(whole), len(before)))
    end = max(len(until), shared + 1)
    return whole[:shared], whole[shared:end]


def with_call_advantages(
    sequences: Sequence[TokenSequence], advantages: Sequence[torch.Tensor]
) -> tuple[TokenSequence, ...]:
    """Return the sequences of a rollout with (completion,) advantages of their calls."""
    return tuple(
        TokenSequence(  # `_replace` fails for a named tuple that defines `__len__`
            one.prompt_ids,
            one.completion_ids,
            one.loss_mask,
            {**one.per_token, CALL_ADVANTAGES: values},
            one.num_pictures,
        )
        for one, values in zip(sequences, advantages, strict=True)
    )


def paid_turns(rollout: GeneratedRollout) -> list[int]:
    """Return the numbers of the turns with an executed call whose result the model saw in another turn."""
    num_turns = len(turn_places(rollout.sequences))
    turns = enumerate(rollout.trace.turns)
    return [number for number, one in turns if one.has_executed_call and number + 1 < num_turns]


def turn_places(sequences: Sequence[SequenceDraft]) -> list[TurnPlace]:
    """Return where each generated turn is, in order.

    >>> one = SequenceDraft([1, 2], 0)
    >>> one.add_turn([3, 4], [0.0, 0.0]); one.add_context([5], 0); one.add_turn([6], [0.0])
    >>> [tuple(place) for place in turn_places([one])]
    [(0, 0, 2), (0, 3, 4)]
    """
    places = []
    for number, one in enumerate(sequences):
        start = None
        for at, is_trained in enumerate([*one.loss_mask, False]):
            if is_trained and start is None:
                start = at
            elif not is_trained and start is not None:
                places.append(TurnPlace(number, start, at))
                start = None
    return places


def call_start(turn: Turn, ids: Sequence[int], decode: Any) -> int:
    """Return the number of the first token of a turn's call: the first one after the words before it.

    Args:
        turn: turn with a call.
        ids: its token ids.
        decode: function of token ids.
    """
    end = 0
    for part in turn.parts:
        if isinstance(part, ToolCall):
            break
        words = (
            part.text
            if isinstance(part, Text)
            else part.thought
            if isinstance(part, Thought)
            else ""
        )
        found = turn.text.find(words, end)
        end = found + len(words) if found >= 0 else end
    for number in range(len(ids)):
        if len(decode(list(ids[: number + 1]))) > end:
            return number
    return 0


def normalize_rises(rises_G: Sequence[dict[int, float]]) -> list[dict[int, float]]:
    """Return the rises of a group, over all calls of all rollouts, with mean 0 and standard deviation 1.

    >>> normalize_rises([{0: 2.0}, {0: 0.0}, {}])
    [{0: 1.0}, {0: -1.0}, {}]
    """
    values = torch.tensor([rise for one in rises_G for rise in one.values()], dtype=torch.float64)
    if len(values) < 2 or values.std(correction=0) < _MIN_SPREAD:
        return [dict.fromkeys(one, 0.0) for one in rises_G]
    mean, spread = values.mean().item(), values.std(correction=0).item()
    return [{turn: (rise - mean) / spread for turn, rise in one.items()} for one in rises_G]


def _num_pictures(trace: Trace, turn: int) -> int:
    """Return the number of pictures in the context before a turn."""
    results = (o for one in trace.turns[:turn] for o in one.observations)
    return len(trace.pictures) + sum(len(one.pictures) for one in results)


def _frozen_reader(trainer: Any) -> tuple[Any, Any]:
    """Return the initial model, and a context that removes the trained adapter if there is one."""
    if trainer.run.sharding:
        raise UsageError(
            expected="reward.delta without sharding, because every process needs a whole reader",
            got=f"sharding = {trainer.run.sharding!r}",
            fix="set delta to 0, or train with LoRA and without sharding",
        )
    model = distributed.unwrap_model(trainer)
    if trainer.run.lora_rank:
        return model, model.disable_adapter
    reader = deepcopy(model).eval().requires_grad_(requires_grad=False)
    return reader, nullcontext
