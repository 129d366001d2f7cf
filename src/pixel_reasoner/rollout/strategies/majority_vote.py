"""Self-consistency (Wang et al., arXiv 2203.11171): majority vote over several sampled rollouts."""

from __future__ import annotations

from collections import Counter

from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace

NUM_SAMPLES = 5
_MAX_SHOWN_CHARS = 60


def majority_vote(
    question: Question,
    scheduler: RolloutScheduler,
    config: RolloutConfig,
    num_samples: int = NUM_SAMPLES,
) -> Trace:
    """Return the first sampled trace with the most frequent answer. Its notes contain the votes.

    Sample i has the seed of the configuration plus i.
    """
    sampling = config.sampling
    handles = [
        scheduler.submit(
            RolloutRequest(
                question=question,
                config=config.model_copy(
                    update={"sampling": sampling.model_copy(update={"seed": sampling.seed + n})}
                ),
            )
        )
        for n in range(num_samples)
    ]
    traces = [handle.result().model_copy(update={"sample": n}) for n, handle in enumerate(handles)]
    votes = Counter(trace.answer for trace in traces if trace.answer is not None)
    # `most_common` keeps the order of first appearance among equals.
    winner = votes.most_common(1)[0][0] if votes else None
    chosen = next(trace for trace in traces if trace.answer == winner)
    note = _note(votes, num_samples)
    return chosen.model_copy(update={"notes": (*chosen.notes, note)})


def _note(votes: Counter[str], num_samples: int) -> str:
    """Return the votes as a sentence.

    >>> _note(Counter({"B": 3, "A": 1}), 5)
    'majority vote: B 3, A 1, no answer 1'
    """
    counts = [f"{answer[:_MAX_SHOWN_CHARS]} {count}" for answer, count in votes.most_common()]
    if num_without := num_samples - votes.total():
        counts.append(f"no answer {num_without}")
    return f"majority vote: {', '.join(counts)}"


STRATEGIES.register("majority_vote", majority_vote)
