"""Confidence-guided tree search over regions, after ZoomEye (Shen et al., arXiv 2411.16044).

A picture is divided into four overlapping quarters, each of these again, and so on. A probe asks the model whether a
region shows an object of the question. The most probable region is divided next. The answer comes from a rollout that
starts with the regions that were found.

Departures from ZoomEye:
1. The objects are phrases of the question (`cues`), not a reply of the model.
2. Only the confidence that the object exists guides the search. ZoomEye adds a second question about what a region would show
   at higher resolution, and stops when an answer is confident.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Annotated, NamedTuple

from pydantic import Field

from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.strategies import STRATEGIES
from pixel_reasoner.rollout.strategies.cues import existence_question, find_cues
from pixel_reasoner.rollout.strategies.regions import Place, quadrants
from pixel_reasoner.rollout.strategies.session import StrategySession, yes_probability
from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.strategy import CandidateKind
from pixel_reasoner.schema.trace import Trace

FOUND = 0.5
"""least probability of a region that is shown: the model says that it contains the object"""


class _Node(NamedTuple):
    """Region in the search; the most probable one, and of equal ones the deepest, is divided first."""

    priority: tuple[float, int, int]
    place: Place
    depth: int
    probe: int | None
    """index of its probe among the candidates"""


def tree_search(
    question: Question,
    scheduler: RolloutScheduler,
    config: RolloutConfig,
    depth: Annotated[int, Field(ge=1, le=6)] = 3,
    overlap: Annotated[float, Field(ge=0, le=0.8)] = 0.3,
    nodes: Annotated[int, Field(ge=4, le=400)] = 32,
) -> Trace:
    """Return the more probable answer of two rollouts: with the regions where the objects were found, and without.

    Args:
        question: text and media. A question with a clip, or that names no object, is answered by an ordinary rollout.
        scheduler: runs the rollouts.
        config: of the rollouts.
        depth: number of divisions.
        overlap: share of a quarter that its neighbour repeats.
        nodes: largest number of probes per object.
    """
    options = {"depth": depth, "overlap": overlap, "nodes": nodes}
    session = StrategySession(question, scheduler, config, "tree_search", options)
    cues = find_cues(question.text)
    pictures = session.open_pictures() if cues else ()
    if not pictures:
        return session.answer_plainly()
    found: list[Place] = []
    for cue in cues:
        text = existence_question(cue)
        roots = [(one.number, WHOLE) for one in pictures]
        place = _search(session, text, roots, depth, overlap, nodes)
        if place is not None and place not in found:
            found.append(place)
    if not found:
        return session.answer_plainly()
    return session.answer_best([session.look([]), session.look(found)])


def _search(
    session: StrategySession,
    text: str,
    roots: list[Place],
    depth: int,
    overlap: float,
    max_nodes: int,
) -> Place | None:
    """Return the deepest region of the best branch; None if no region is likely to show the object."""
    order = itertools.count()
    frontier = [_Node((-1.0, 0, next(order)), root, 0, None) for root in roots]
    best: tuple[int, float, Place] | None = None
    num_probes = 0
    while frontier and num_probes < max_nodes:
        node = heapq.heappop(frontier)
        if node.depth == depth:
            break
        number, box = node.place
        parts = [(number, part) for part in quadrants(box, overlap)]
        handles = [session.probe(part, text) for part in parts]
        num_probes += len(parts)
        for part, handle in zip(parts, handles, strict=True):
            trace = session.finish(handle)
            score = yes_probability(trace)
            session.add(
                trace,
                kind=CandidateKind.PROBE,
                text=text,
                score=score,
                parent=node.probe,
            )
            if score < FOUND:
                continue
            index, level = len(session.candidates) - 1, node.depth + 1
            priority = (-score, -level, next(order))
            heapq.heappush(frontier, _Node(priority, part, level, index))
            if best is None or (level, score) > best[:2]:
                best = (level, score, part)
    return best[2] if best is not None else None


STRATEGIES.register("tree_search", tree_search)
