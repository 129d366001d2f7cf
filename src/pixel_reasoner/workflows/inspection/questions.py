"""Questions to the model, and how its answers are read.

The model gets the photo and one numbered picture per proposal: the place in the photo on the left, the same place of a good
part on the right. It must name a class or `none` for every number, so it cannot skip one, and it may reject all.
Without references it gets the photo, or overlapping tiles of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.inspection.places import Proposal
from pixel_reasoner.workflows.inspection.spec import ANOMALY, InspectionSpec

REJECTED = frozenset(
    {"none", "no", "ok", "good", "nothing", "no defect", "normal", "no difference"}
)
UNSURE = frozenset({"unsure", "unclear", "unknown", "cannot tell", "?"})
OTHER = "other"
"""class of a defect that the specification does not list"""
_ENTRY = re.compile(r"^\D{0,12}?(\d+)\s*[:.)=\-–]*\s*(.*)$", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """What the model said about one photo or tile."""

    classes: Mapping[int, str] = field(default_factory=dict)
    """number -> class; the rejected are not listed"""
    rejected: frozenset[int] = frozenset()
    unsure: frozenset[int] = frozenset()
    problem: str = ""
    """why the answer cannot be used as a whole or in part; empty if it can"""


def proposal_question(
    spec: InspectionSpec, proposals: Sequence[Proposal], size: tuple[int, int]
) -> str:
    """Return the question about numbered proposals. Picture 1 is the photo, picture n + 1 shows proposal n.

    Args:
        spec: the inspection.
        proposals: in the order of their numbers.
        size: of the photo.
    """
    places = "\n".join(
        f"{one.number}: picture {one.number + 1}, {_place(one.fractions(size))}"
        for one in proposals
    )
    return (
        f"Picture 1 is a photo of a {spec.product}. {_good(spec)}"
        f"A comparison with good parts proposes {len(proposals)} place{'s' * (len(proposals) > 1)}. Each further picture "
        "shows one: on the left the photo, on the right the same place of a good part.\n"
        f"{places}\n"
        "The comparison is often wrong: light, dirt on the lens and a small shift are no defects. "
        "Look at every place, zoom in where it is unclear, and decide for each number.\n"
        f"{_classes(spec)}"
        f"Answer with every number and its class, `none` if it is no defect, or `unsure`: "
        f"\\boxed{{{_example(spec, [one.number for one in proposals])}}}"
    )


def free_question(spec: InspectionSpec, *, is_tile: bool) -> str:
    """Return the question about a photo, or a tile of it, without references."""
    what = f"a part of a photo of a {spec.product}" if is_tile else f"a photo of a {spec.product}"
    name = next(iter(spec.defects), ANOMALY)
    return (
        f"Picture 1 is {what}. {_good(spec)}"
        "Look for defects. Zoom in on every place that may be one, so that a picture of it exists.\n"
        f"{_classes(spec)}"
        "Answer `ok` if there is no defect, `unsure` if you cannot decide. Else name the number of the picture "
        f"that shows each defect best, and its class: \\boxed{{2: {name}}}"
    )


def read_proposal_reply(answer: str | None, numbers: Sequence[int], spec: InspectionSpec) -> Reply:
    r"""Read the answer to `proposal_question`. A number without a class is unsure, never ok.

    >>> spec = InspectionSpec(defects={"dent": {}})
    >>> read_proposal_reply("1: dent; 2: none", [1, 2], spec).classes
    {1: 'dent'}
    >>> read_proposal_reply("ok", [1, 2], spec).rejected == {1, 2}
    True
    >>> read_proposal_reply("1: none", [1, 2], spec).problem
    'no decision about 2'
    """
    if answer is None or not answer.strip():
        return Reply(unsure=frozenset(numbers), problem="no answer")
    whole = answer.strip().strip(".` ").casefold()
    if whole in REJECTED:
        return Reply(rejected=frozenset(numbers))
    if whole in UNSURE:
        return Reply(unsure=frozenset(numbers), problem="the model is unsure")
    entries, unread = _entries(answer)
    found = _sorted(entries, spec, unread)
    extra = sorted(set(entries) - set(numbers))
    missing = [n for n in numbers if n not in entries]
    problems = [found.problem] if found.problem else []
    if extra:
        problems.append(f"no such proposal: {', '.join(map(str, extra))}")
    if missing:
        problems.append(f"no decision about {', '.join(map(str, missing))}")
    return Reply(
        {n: one for n, one in found.classes.items() if n in numbers},
        found.rejected & set(numbers),
        (found.unsure & set(numbers)) | set(missing),
        "; ".join(problems),
    )


def read_free_reply(answer: str | None, num_pictures: int, spec: InspectionSpec) -> Reply:
    """Read the answer to `free_question`: picture numbers and classes.

    Args:
        answer: of the model.
        num_pictures: pictures in its context.
        spec: the inspection.
    """
    if answer is None or not answer.strip():
        return Reply(problem="no answer")
    whole = answer.strip().strip(".` ").casefold()
    if whole in REJECTED:
        return Reply()
    if whole in UNSURE:
        return Reply(problem="the model is unsure")
    entries, unread = _entries(answer)
    found = _sorted(entries, spec, unread)
    if extra := sorted(n for n in entries if not 1 <= n <= num_pictures):
        return Reply(problem=f"no such picture: {', '.join(map(str, extra))}")
    return found


# --- parts of a question ---


def _good(spec: InspectionSpec) -> str:
    return f"A good one: {spec.good.rstrip('.')}. " if spec.good else ""


def _classes(spec: InspectionSpec) -> str:
    if not spec.defects:
        return f"The only class is `{ANOMALY}`: any defect.\n"
    lines = [
        f"- `{name}`{f': {one.description}' if one.description else ''}"
        for name, one in spec.defects.items()
    ]
    return "Classes of defects:\n" + "\n".join(lines) + f"\n- `{OTHER}`: any other defect\n"


def _example(spec: InspectionSpec, numbers: Sequence[int]) -> str:
    name = next(iter(spec.defects), ANOMALY)
    return "; ".join(f"{n}: {name if place == 0 else 'none'}" for place, n in enumerate(numbers))


def _place(box: Box) -> str:
    return (
        f"from {box.x1:.1%} to {box.x2:.1%} of the width and from {box.y1:.1%} to {box.y2:.1%} "
        "of the height"
    ).replace("%", " %")


# --- parts of an answer ---


def _entries(answer: str) -> tuple[dict[int, str], list[str]]:
    """Return number -> words of an answer, and the entries without a number."""
    found: dict[int, str] = {}
    unread = []
    for entry in re.split(r"[;\n]|,(?=\s*\D{0,12}\d+\s*[:.)=\-–])", answer):
        words = entry.strip().strip("`*. ")
        if not words:
            continue
        match = _ENTRY.match(words)
        if match is None:
            unread.append(words)
        else:
            found.setdefault(int(match[1]), match[2].strip().strip("`*. "))
    return found, unread


def _sorted(entries: Mapping[int, str], spec: InspectionSpec, unread: Sequence[str]) -> Reply:
    classes: dict[int, str] = {}
    rejected, unsure, problems = set[int](), set[int](), []
    for number, words in entries.items():
        plain = words.casefold()
        if plain in REJECTED:
            rejected.add(number)
        elif plain in UNSURE or not plain:
            unsure.add(number)
        elif (known := _known_class(words, spec)) is not None:
            classes[number] = known
        else:
            unsure.add(number)
            problems.append(f"the class {words[:60]!r} is not in the specification")
    if unread and not entries:
        problems.append(f"not in the required form: {unread[0][:60]!r}")
    return Reply(classes, frozenset(rejected), frozenset(unsure), "; ".join(problems))


def _known_class(words: str, spec: InspectionSpec) -> str | None:
    """Return the class that words name, also with words behind it in brackets or after a comma."""
    for text in (words, re.split(r"[(,]", words)[0]):
        if (found := spec.defect_class(text)) is not None:
            return found
        if text.strip().casefold() in (OTHER, ANOMALY, "defect"):
            return ANOMALY if not spec.defects else OTHER
    return None
