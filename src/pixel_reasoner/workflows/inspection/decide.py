"""Decision about one photo: from scores, proposals and the answers of a model to a verdict with findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.trace import Picture
from pixel_reasoner.workflows.inspection.examine import Examined
from pixel_reasoner.workflows.inspection.places import Proposal
from pixel_reasoner.workflows.inspection.questions import Reply
from pixel_reasoner.workflows.inspection.spec import ANOMALY, InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import Finding, Verdict, with_tolerances


@dataclass(frozen=True)
class Decided:
    """Verdict of one photo."""

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...] = ()
    num_accepted_decoys: int = 0


class TileReply(NamedTuple):
    """Answer about a tile, or about a whole photo."""

    tile: Box
    reply: Reply
    pictures: Mapping[int, Picture]
    """in the context of the model, by number"""


def decide_early(examined: Examined) -> Decided | None:
    """Return the verdict of a photo that no model has to see: an error, or not aligned; None for all others."""
    if examined.error is not None:
        return Decided(Verdict.ERROR, examined.error)
    if examined.unaligned:
        return Decided(Verdict.UNSURE, f"not aligned: {examined.unaligned}")
    return None


def decide_by_score(examined: Examined, spec: InspectionSpec) -> Decided:
    """Return the verdict without a model: the score against the thresholds."""
    assert examined.size is not None
    score, limits = examined.score or 0.0, spec.decision
    if score < limits.look_from:
        return Decided(Verdict.OK, f"largest difference {score:.2f}, below {limits.look_from:g}")
    findings = with_tolerances(
        [
            _finding(
                one, examined, ANOMALY, spec, f"differs {one.score:.2f} times as much as usual"
            )
            for one in examined.proposals
            if not one.is_decoy and one.score >= min(score, limits.defect_from)
        ],
        spec,
        examined.size,
    )
    if findings and all(one.is_tolerated for one in findings):
        return Decided(Verdict.OK, "all differences are tolerated", tuple(findings))
    if score < limits.defect_from:
        reason = (
            f"difference {score:.2f} is between {limits.look_from:g} and {limits.defect_from:g}"
        )
        return Decided(Verdict.UNSURE, reason)
    return Decided(
        Verdict.DEFECT, f"difference {score:.2f}, at least {limits.defect_from:g}", tuple(findings)
    )


def decide_by_reply(
    examined: Examined, reply: Reply, agreement: float, spec: InspectionSpec, text: str
) -> Decided:
    """Return the verdict from the model's answer about numbered proposals.

    Args:
        examined: the photo.
        reply: classes, rejections and doubts.
        agreement: share of equal answers.
        spec: tolerances and limits.
        text: what the model said, for the reason of findings.
    """
    assert examined.size is not None
    real = {one.number: one for one in examined.proposals if not one.is_decoy}
    decoys = {one.number for one in examined.proposals if one.is_decoy}
    findings = with_tolerances(
        [
            _finding(real[number], examined, name, spec, text)
            for number, name in sorted(reply.classes.items())
            if number in real
        ],
        spec,
        examined.size,
    )
    accepted = len(decoys & set(reply.classes))
    doubt = _doubt(reply, agreement, accepted, spec, set(real))
    verdict, reason = _judged(findings, doubt)
    score, limit = examined.score, spec.decision.max_rejected_score
    if verdict is Verdict.OK and score is not None and limit is not None and score > limit:
        verdict = Verdict.UNSURE
        reason = f"the model rejects a difference of {score:.2f}, more than {limit:g}"
    return Decided(verdict, reason, tuple(findings), accepted)


def decide_by_tiles(
    examined: Examined,
    replies: Sequence[TileReply],
    agreement: float,
    spec: InspectionSpec,
) -> Decided:
    """Return the verdict from the answers about a photo or its tiles. Findings of overlapping tiles are merged.

    Args:
        examined: the photo.
        replies: of the photo or its tiles.
        agreement: smallest agreement of all tiles.
        spec: tolerances and limits.
    """
    assert examined.size is not None
    found: list[Finding] = []
    for tile, reply, pictures in replies:
        for number, name in sorted(reply.classes.items()):
            box = (pictures[number].box if number in pictures else WHOLE).within(tile)
            one = Finding(box=box, defect_class=name, severity=spec.severity(name))
            _merge(found, one)
    findings = with_tolerances(found, spec, examined.size)
    problems = [reply.problem for _, reply, _ in replies if reply.problem or reply.unsure]
    doubt = "; ".join(dict.fromkeys(one or "the model is unsure" for one in problems))
    if not doubt and agreement < spec.decision.min_agreement:
        doubt = f"the answers disagree: agreement {agreement:.0%}"
    return Decided(*_judged(findings, doubt), tuple(findings))


def proposed(examined: Examined, spec: InspectionSpec) -> tuple[Finding, ...]:
    """Return all proposals of a photo as findings without a class; decoys are left out."""
    real = [one for one in examined.proposals if not one.is_decoy]
    return tuple(_finding(one, examined, ANOMALY, spec, "") for one in real)


def _finding(
    one: Proposal, examined: Examined, name: str, spec: InspectionSpec, reason: str
) -> Finding:
    assert examined.size is not None
    numbers = [other.number for other in examined.proposals]
    return Finding(
        box=one.fractions(examined.size),
        defect_class=name,
        severity=spec.severity(name),
        score=one.score,
        reason=reason,
        number=one.number,
        crop=examined.pictures[numbers.index(one.number)] if examined.pictures else "",
    )


def _doubt(
    reply: Reply, agreement: float, accepted: int, spec: InspectionSpec, real: set[int]
) -> str:
    if reply.problem:
        return reply.problem
    if unsure := sorted(reply.unsure & real):
        return f"the model is unsure about {', '.join(map(str, unsure))}"
    if accepted:
        return "the model also named a defect where nothing differs"
    if agreement < spec.decision.min_agreement:
        return f"the answers disagree: agreement {agreement:.0%}"
    return ""


def _judged(findings: Sequence[Finding], doubt: str) -> tuple[Verdict, str]:
    """Return the verdict and its reason. A doubt about some places does not hide a defect at others."""
    serious = [one for one in findings if not one.is_tolerated]
    names = ", ".join(dict.fromkeys(one.defect_class.replace("_", " ") for one in serious))
    if serious and not _is_total(doubt):
        return Verdict.DEFECT, names + (f" ({doubt})" if doubt else "")
    if doubt:
        return Verdict.UNSURE, doubt
    if findings:
        return Verdict.OK, "all findings are tolerated"
    return Verdict.OK, "the model found no defect"


def _is_total(doubt: str) -> bool:
    """Return whether a doubt concerns the whole answer."""
    return doubt.startswith(("the answers disagree", "the model also named"))


def _merge(found: list[Finding], one: Finding) -> None:
    """Add a finding, or join it with one of the same class that it overlaps by half."""
    for number, other in enumerate(found):
        shared = one.box.intersection(other.box)
        if other.defect_class == one.defect_class and shared > 0.5 * min(
            one.box.area, other.box.area
        ):
            smaller = min((one, other), key=lambda two: two.box.area)
            found[number] = smaller
            return
    found.append(one)
