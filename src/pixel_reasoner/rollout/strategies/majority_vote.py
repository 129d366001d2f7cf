"""Self-consistency (Wang et al., arXiv 2203.11171): majority vote over several sampled rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.rollout.strategies.session import StrategySession, score_of
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.voting import AnswerGroups, majority, weight_of, weighted_majority

NUM_SAMPLES = 5
_MAX_SHOWN_CHARS = 60


def majority_vote(
    question: Question,
    scheduler: RolloutScheduler,
    config: RolloutConfig,
    k: Annotated[int, Field(ge=2, le=256)] = NUM_SAMPLES,
    weights: Literal["count", "probability"] = "count",
) -> Trace:
    """Return the first sampled trace with the most frequent answer; its confidence is the share of votes.

    With weights, a vote counts as much as its answer is probable (Taubenfeld et al., arXiv 2502.06233).

    Answers that the grader counts as equal are one answer. Of equally frequent ones the more probable one wins, or else
    the first. Sample i has the seed of the configuration plus i.

    Args:
        question: text and media.
        scheduler: runs the rollouts.
        config: of the rollouts, with a temperature above 0.
        k: number of samples.
        weights: of the votes: 1, or the probability of the answer.
    """
    options = {"k": k, "weights": weights}
    session = StrategySession(question, scheduler, config, "majority_vote", options)
    handles = [session.sample(number) for number in range(k)]
    traces = [
        session.finish(handle).model_copy(update={"sample": number})
        for number, handle in enumerate(handles)
    ]
    groups = AnswerGroups(question)
    votes = [groups.add(extract_trace_answer(trace)) for trace in traces]
    scores = [score_of(trace) or 0.0 for trace in traces]
    is_weighted = weights == "probability" and any(scores)
    winner = weighted_majority(votes, scores) if is_weighted else majority(votes, scores)
    chosen = votes.index(winner)
    for number, (trace, vote) in enumerate(zip(traces, votes, strict=True)):
        count = 0 if vote is None else votes.count(vote)
        session.add(trace, votes=count, is_selected=number == chosen)
    share = 0.0 if winner is None else votes.count(winner) / k
    if winner is not None and is_weighted:
        share = round(weight_of(winner, votes, scores) / sum(scores), 6)
    return session.result(traces[chosen], confidence=share, note=_note(groups.answers, votes))


def _note(answers: Sequence[str], votes: Sequence[int | None]) -> str:
    """Return the votes as a sentence.

    >>> _note(["A", "B"], [0, 1, 1, 1, None])
    'majority vote: B 3, A 1, no answer 1'
    """
    order = sorted(range(len(answers)), key=lambda group: -votes.count(group))
    counts = [f"{answers[group][:_MAX_SHOWN_CHARS]} {votes.count(group)}" for group in order]
    if num_without := votes.count(None):
        counts.append(f"no answer {num_without}")
    return f"majority vote: {', '.join(counts)}"


STRATEGIES.register("majority_vote", majority_vote)
