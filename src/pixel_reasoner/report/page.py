"""Traces as one HTML page: no server, no network, nothing that a model wrote is ever run.

The page is written piece by piece, one trace at a time, so that memory does not grow with the number of
traces. What stands above the traces (counts, filters, settings) is known only after the last one: the cards
wait in an unnamed file beside the page. Boxes are drawn as SVG over the pictures, never into their pixels.

A picture that cannot be shown any more (moved, changed or broken since) leaves a tile that says why.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from PIL import Image

from pixel_reasoner.album import Album
from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.grading import Outcome, grade_trace
from pixel_reasoner.trace import WHOLE, Box, OpCall, Picture, Question, Record, Size, Trace, Turn

_MAX_SHOWN_PX = (900, 4000)
"""larger pictures are scaled down to this width and height"""
_MAX_LOSSLESS_PX = 256 * 256
"""small pictures are kept to the last pixel: what the model could see is the point of them"""
_ENLARGED_BELOW_PX = 450
"""narrower pictures are shown enlarged, with hard pixel edges"""
_NUM_COLORS = 6
_MAX_VALUES = 4
"""of a setting that differs between traces"""

_MACHINE_TEXT = re.compile(r"<tool_call>.*?(?:</tool_call>|\Z)|</?think>", re.DOTALL)
_WORDS = {Outcome.CORRECT: "right", Outcome.WRONG: "wrong", Outcome.UNPARSED: "unparsed"}
_SIGNS = {"right": "✓", "wrong": "✗", "unparsed": "?", "ungraded": "–"}
_KEY_LOOKED = '<span class="key">where it looked</span>'
_KEY_EVIDENCE = '<span class="key dashed">where the answer is</span>'
_LOOKS = {True: "needs a look", False: "overview suffices", None: "unknown"}


class Summary(Record):
    """What a page shows and what it could not show."""

    traces: int
    unshown: dict[str, int]
    """why pictures could not be shown -> how many"""


def write_report(
    traces: Iterable[Trace], out: Path, title: str = "Pixel Reasoner traces"
) -> Summary:
    """Write traces as one HTML page that opens anywhere; it appears only when it is complete.

    >>> from pixel_reasoner.trace import Question, Stop
    >>> question = Question(id="q1", text="How many?", media=())
    >>> page = Path(tempfile.mkdtemp()) / "page.html"
    >>> write_report([Trace(question=question, stop=Stop.NO_ANSWER)], page)
    Summary(traces=1, unshown={})
    >>> page.read_text(encoding="utf-8").count("<article")
    1

    Raises:
        OutputError: the place cannot be written.
    """
    out = Path(out)
    tally = _Tally()
    with (
        atomic_writer(out) as page,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=out.parent) as cards,
    ):
        for trace in traces:
            cards.writelines(_card(trace, tally))
        before, after = _frame(title, tally)
        cards.seek(0)
        page.write(before)
        shutil.copyfileobj(cards, page)
        page.write(after)
    return Summary(traces=tally.traces, unshown=dict(tally.unshown))


# ---- the page around the traces


class _Tally:
    """What is counted while the traces go by."""

    def __init__(self) -> None:
        self.traces = 0
        self.operations = 0
        self.unshown: Counter[str] = Counter()
        self.filters: dict[str, Counter[str]] = defaultdict(Counter)
        """name of a filter -> how many traces have each of its values"""
        self.settings: dict[str, Counter[str]] = defaultdict(Counter)

    def count(self, trace: Trace) -> dict[str, list[str]]:
        """Count one trace. Returns its values by filter."""
        self.traces += 1
        self.operations += len(trace.executed)
        values = {
            "outcome": [_outcome(trace)],
            "stop": [_words(trace.stop)],
            "operations": _operations(trace),
            "category": [trace.question.category or "none"],
            "look": [_LOOKS[trace.question.needs_look]],
        }
        for name, of_trace in values.items():
            self.filters[name].update(of_trace)
        for name, value in _flat({**trace.settings, "versions": trace.versions}):
            self.settings[name][value] += 1
        return values


def _frame(title: str, tally: _Tally) -> tuple[str, str]:
    """The page before and after its traces."""
    assets = resources.files(__package__)
    style, script, page = (
        (assets / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    # Only these two texts may style and run: whatever a model wrote cannot, even if escaping failed.
    values = {
        "title": escape(title),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "summary": _summary(tally),
        "filters": "\n".join(_filter(name, values) for name, values in tally.filters.items()),
    }
    before, _, after = page.partition("$traces")
    return Template(before).substitute(values), Template(after).substitute(values)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _summary(tally: _Tally) -> str:
    """Counts, stop reasons and settings."""
    outcomes, operations = tally.filters["outcome"], tally.filters["operations"]
    facts = [("", "traces", str(tally.traces))]
    facts += [(name, name, str(outcomes[name])) for name in _SIGNS if outcomes[name]]
    if tally.traces:
        facts += [
            ("", "with operations", str(tally.traces - operations["0"])),
            ("", "mean operations", f"{tally.operations / tally.traces:.2f}"),
        ]
    tiles = "".join(f'<div class="{k}"><dt>{name}</dt><dd>{n}</dd></div>' for k, name, n in facts)
    stops = ", ".join(f"{stop} {count}" for stop, count in tally.filters["stop"].most_common())
    unshown = "".join(
        f"<li>{count} × {escape(why)}</li>" for why, count in tally.unshown.most_common()
    )
    return "\n".join(
        [
            _bar(outcomes, tally.traces),
            f'<dl class="figures">{tiles}</dl>',
            f'<p class="lead">Stopped: {escape(stops) or "nothing was asked"}.</p>',
            _details(f"Pictures not shown: {tally.unshown.total()}", f"<ul>{unshown}</ul>")
            if unshown
            else "",
            _details("Settings", _settings_table(tally)) if tally.settings else "",
        ]
    )


def _bar(outcomes: Counter[str], traces: int) -> str:
    """The shares of the outcomes as one line."""
    parts, start = [], 0.0
    for name in _SIGNS:
        share = 100 * outcomes[name] / max(1, traces)
        parts.append(f'<rect class="{name}" x="{start:.3f}%" width="{share:.3f}%" height="100%"/>')
        start += share
    words = ", ".join(f"{outcomes[name]} {name}" for name in _SIGNS if outcomes[name])
    return f'<svg class="bar" role="img" aria-label="{words or "no traces"}">{"".join(parts)}</svg>'


def _settings_table(tally: _Tally) -> str:
    rows = []
    for name, values in sorted(tally.settings.items()):
        shown = [
            value if count == tally.traces else f"{value} ({count})"
            for value, count in values.most_common(_MAX_VALUES)
        ]
        shown += ["…"] if len(values) > _MAX_VALUES else []
        cells = f"<td>{escape(', '.join(shown))}</td>"
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return f"<table>{''.join(rows)}</table>"


def _filter(name: str, values: Counter[str]) -> str:
    options = "".join(
        f'<option value="{escape(value)}">{escape(value)} ({count})</option>'
        for value, count in sorted(values.items())
    )
    return f'<label>{name} <select name="{name}"><option value="">any</option>{options}</select></label>'


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings with dotted names.

    >>> list(_flat({"model": "tiny", "budgets": {"crop": 4096}}))
    [('model', 'tiny'), ('budgets.crop', '4096')]
    """
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, default=str)


def _details(label: str, content: str) -> str:
    return f"<details><summary>{label}</summary>{content}</details>"


def _outcome(trace: Trace) -> str:
    graded = grade_trace(trace)
    return _WORDS[graded.outcome] if graded else "ungraded"


def _operations(trace: Trace) -> list[str]:
    executed = len(trace.executed)
    return ["2+" if executed >= 2 else str(executed), *(["refused"] if trace.refused else [])]


def _words(name: str) -> str:
    """A name of an enum as a person writes it."""
    return name.replace("_", " ")


# ---- one trace


def _card(trace: Trace, tally: _Tally) -> Iterator[str]:
    """One trace, in pieces."""
    values = tally.count(trace)
    number = tally.traces
    shots = _Shots(trace, tally.unshown)
    data = " ".join(f'data-{name}="{escape(chr(10).join(of))}"' for name, of in values.items())
    yield f'<article class="trace" id="t{number}" tabindex="-1" aria-labelledby="t{number}-q" {data}>\n'
    yield _heading(trace, number, values)
    for _, of_medium in groupby(trace.pictures, key=lambda picture: picture.medium):
        pictures = list(of_medium)
        show = _pairs if pictures[0].frame is None else _strip
        yield show(pictures, trace, shots, number)
    if trace.turns:
        turns = enumerate(trace.turns, start=1)
        yield '<ol class="turns">\n'
        yield from (_turn(turn, index, trace, shots, number) for index, turn in turns)
        yield _end(trace, values["outcome"][0])
        yield "</ol>\n"
    yield "</article>\n"


def _heading(trace: Trace, number: int, values: dict[str, list[str]]) -> str:
    """The question, the answers, and how it went."""
    question = trace.question
    calls = f"{len(trace.executed)} operations" if len(trace.executed) != 1 else "1 operation"
    if trace.refused:
        calls += f", {len(trace.refused)} refused"
    facts = [question.id, question.category, _words(trace.stop), calls, f"{trace.seconds:.1f} s"]
    if question.needs_look is not None:
        facts.insert(2, _LOOKS[question.needs_look])
    meta = "".join(f"<span>{escape(fact)}</span>" for fact in facts if fact)
    options = "".join(
        f"<li><b>{escape(letter)}</b> {escape(text)}</li>"
        for letter, text in question.options.items()
    )
    error = f'<p class="error"><b>Failed.</b> {escape(trace.error)}</p>' if trace.error else ""
    return "\n".join(
        [
            f'<p class="meta"><span class="number">{number}</span>{meta}</p>',
            f'<h2 id="t{number}-q">{escape(question.text)}</h2>',
            f'<ol class="options">{options}</ol>' if options else "",
            _verdict(trace.answer, question, values["outcome"][0]),
            error,
            "",
        ]
    )


def _verdict(answer: str | None, question: Question, outcome: str) -> str:
    none = '<span class="none">{}</span>'
    given = none.format("no answer") if answer is None else escape(answer)
    expected = escape(" or ".join(question.answer)) or none.format("not known")
    return (
        f'<dl class="verdict"><div><dt class="mark {outcome}">{_SIGNS[outcome]} {outcome}</dt></div>'
        f"<div><dt>answered</dt><dd>{given}</dd></div><div><dt>expected</dt><dd>{expected}</dd></div></dl>"
    )


def _turn(turn: Turn, index: int, trace: Trace, shots: _Shots, number: int) -> str:
    """One message of the model and what came back."""
    link, seen = f"t{number}-{index}", turn.observation
    thought = _MACHINE_TEXT.sub("", turn.text).strip()
    words = [f'<p class="thought">{escape(thought)}</p>'] if thought else []
    if turn.call or seen:
        mistake = '<span class="mistake">a deliberate mistake</span>' if turn.mistake else ""
        words.append(f'<p class="call">{escape(_call_in_words(turn, trace))}{mistake}</p>')
    if seen and seen.refusal:
        why = f"<b>Refused, {_words(seen.refusal)}.</b> {escape(seen.text)}"
        words.append(f'<p class="refusal">{why}</p>')
    elif seen and not seen.pictures:
        words.append(f'<p class="reply">{escape(seen.text)}</p>')
    if turn.text.strip() != thought:
        words.append(_details("as written", f"<pre>{escape(turn.text)}</pre>"))
    results = "".join(
        _result(picture, trace, shots, number, link) for picture in (seen.pictures if seen else ())
    )
    kind = "refused" if seen and seen.refusal else _color(index)
    return (
        f'<li class="turn {kind}" id="{link}" data-link="{link}">'
        f'<span class="dot" aria-hidden="true">{index}</span><div class="words">{"".join(words)}</div>'
        + (f'<div class="results">{results}</div>' if results else "")
        + "</li>\n"
    )


def _end(trace: Trace, outcome: str) -> str:
    """How it ended, as the last step of the timeline."""
    if trace.answer is None:
        end = f'<span class="none">No answer: {_words(trace.stop)}</span>'
    else:
        end = f"Answer <b>{escape(trace.answer)}</b>"
    return (
        f'<li class="turn end {outcome}"><span class="dot" aria-hidden="true">{_SIGNS[outcome]}</span>'
        f'<p class="words">{end}</p></li>\n'
    )


def _call_in_words(turn: Turn, trace: Trace) -> str:
    """What a turn asked for: in words where it was done, as the model put it where it was refused."""
    pictures = turn.observation.pictures if turn.observation else ()
    asked = turn.call and turn.call.name
    if asked == "zoom_in" and pictures and pictures[0].parent in trace.all_pictures:
        parent = trace.all_pictures[pictures[0].parent]
        box = _inside(pictures[0].box, parent.box)
        return f"zoom in on picture {parent.number}, box {_numbers(box)}"
    if asked == "select_frames" and pictures:
        frames = [str(picture.frame) for picture in pictures]
        return f"look at frame{'s' * (len(frames) > 1)} {', '.join(frames)}"
    return _call_as_written(turn.call) if turn.call else "a call that could not be read"


def _call_as_written(call: OpCall) -> str:
    arguments = ", ".join(
        f"{name} = {json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in call.arguments.items()
    )
    return f"{call.name}({arguments})"


def _numbers(box: Box) -> str:
    """A box for people.

    >>> _numbers(Box(0.125, 0.3, 0.3, 0.48))
    '0.12 0.30 – 0.30 0.48'
    """
    return f"{box.x1:.2f} {box.y1:.2f} – {box.x2:.2f} {box.y2:.2f}"


# ---- what the model was shown first, and what came back


def _pairs(pictures: list[Picture], trace: Trace, shots: _Shots, number: int) -> str:
    """Each picture as the model saw it, beside its source with the boxes it looked into."""
    return "".join(_pair(picture, trace, shots, number) for picture in pictures)


def _pair(picture: Picture, trace: Trace, shots: _Shots, number: int) -> str:
    name = f"Picture {picture.number}"
    seen = shots.view(picture.number, f"{name} as the model saw it")
    source = shots.source(picture.number, f"{name} at full resolution")
    looks = _marks(_looks(trace, picture), WHOLE, number)
    evidence = _evidence_marks(trace.question, picture)
    keys = [_KEY_LOOKED] * bool(looks) + [_KEY_EVIDENCE] * bool(evidence)
    left = f"<b>{name}</b> as the model saw it, {_size(picture.seen_px)} px"
    right = " · ".join([f"<b>Source</b>, {_size(picture.source_px)} px", *keys])
    shape = _shape(picture.source_px)
    return (
        f'<div class="pair">{_figure(seen, left, kind=shape)}'
        f"{_figure(source, right, [*looks, *evidence], shape)}</div>\n"
    )


def _strip(pictures: list[Picture], trace: Trace, shots: _Shots, number: int) -> str:
    """The sampled frames of a video in a row, selected and telling ones marked."""
    frames = "".join(_frame_item(picture, trace, shots, number) for picture in pictures)
    evidence = bool(trace.question.evidence and trace.question.evidence.frames)
    selected = any(_looks(trace, picture) for picture in pictures)
    keys = [
        f"{len(pictures)} frames as the model saw them, {_size(pictures[0].seen_px)} px each",
        *[_KEY_LOOKED] * selected,
        *[_KEY_EVIDENCE] * evidence,
    ]
    return f'<ol class="strip">{frames}</ol><p class="legend">{" · ".join(keys)}</p>\n'


def _frame_item(picture: Picture, trace: Trace, shots: _Shots, number: int) -> str:
    looks = _looks(trace, picture)
    chosen = [turn for turn, look in looks if look.box == WHOLE]
    boxes = _marks([(turn, look) for turn, look in looks if look.box != WHOLE], WHOLE, number)
    evidence = trace.question.evidence.frames if trace.question.evidence else ()
    kinds = [f"selected {_color(chosen[0])}"] if chosen else []
    kinds += ["evidence"] if picture.frame in evidence else []
    img = shots.view(picture.number, f"Frame {picture.frame} as the model saw it")
    caption = f"<b>{picture.frame}</b> {_time(picture)}"
    link = f"t{number}-{chosen[0]}" if chosen else ""
    return f"<li>{_figure(img, caption, boxes, ' '.join(kinds), link)}</li>"


def _result(picture: Picture, trace: Trace, shots: _Shots, number: int, link: str) -> str:
    """A picture that came back, with the boxes of later looks into it."""
    name = f"Picture {picture.number}"
    looks = [(turn, look) for turn, look in _came_back(trace) if look.parent == picture.number]
    frame = f", frame {picture.frame} {_time(picture)}" if picture.frame is not None else ""
    caption = f"<b>{name}</b>{frame}<br>{_size(picture.source_px)} → {_size(picture.seen_px)} px"
    img = shots.view(picture.number, f"{name} as the model saw it")
    return _figure(img, caption, _marks(looks, picture.box, number), _shape(picture.seen_px), link)


def _came_back(trace: Trace) -> list[tuple[int, Picture]]:
    """Every picture that an operation returned, with the number of its turn."""
    return [
        (index, picture)
        for index, turn in enumerate(trace.turns, start=1)
        if turn.observation
        for picture in turn.observation.pictures
    ]


def _looks(trace: Trace, at: Picture) -> list[tuple[int, Picture]]:
    """Later looks at what a first picture shows, into its crops too."""
    return [
        (turn, picture)
        for turn, picture in _came_back(trace)
        if (picture.medium, picture.frame) == (at.medium, at.frame)
    ]


def _marks(looks: Iterable[tuple[int, Picture]], shown: Box, number: int) -> list[_Mark]:
    return [
        _Mark(_inside(look.box, shown), str(look.number), turn, f"t{number}-{turn}")
        for turn, look in looks
    ]


def _evidence_marks(question: Question, picture: Picture) -> list[_Mark]:
    evidence = question.evidence
    if evidence is None or evidence.image != picture.number:
        return []
    return [_Mark(box) for box in evidence.boxes]


def _inside(box: Box, shown: Box) -> Box:
    """A box of the whole picture in coordinates of the region that is shown; undoes `Box.within`.

    >>> _inside(Box(0.75, 0.25, 1.0, 0.5), Box(0.5, 0, 1, 0.5))
    Box(x1=0.5, y1=0.5, x2=1.0, y2=1.0)
    """
    width, height = shown.x2 - shown.x1, shown.y2 - shown.y1
    return Box(
        (box.x1 - shown.x1) / width,
        (box.y1 - shown.y1) / height,
        (box.x2 - shown.x1) / width,
        (box.y2 - shown.y1) / height,
    )


def _color(turn: int) -> str:
    return f"turn-{(turn - 1) % _NUM_COLORS + 1}"


def _shape(size: Size) -> str:
    """A class for pictures that would be too large or too small at the usual width."""
    width, height = size
    return "tall" if height > 1.6 * width else "wide" if width > 2 * height else ""


def _size(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


def _time(picture: Picture) -> str:
    """When a frame is shown, in minutes and seconds.

    >>> _time(Picture(number=1, medium=0, time_s=63.25, source_px=(1, 1), seen_px=(1, 1)))
    '1:03.2'
    """
    if picture.time_s is None:
        return ""
    return f"{int(picture.time_s // 60)}:{picture.time_s % 60:04.1f}"


# ---- pixels and boxes


class _Mark(NamedTuple):
    """A box to draw over a picture, in coordinates of what is shown."""

    box: Box
    label: str = ""
    turn: int = 0
    link: str = ""


class _Shots:
    """The pictures of one trace as `<img>`, or as tiles that say why not."""

    def __init__(self, trace: Trace, unshown: Counter[str]) -> None:
        self._unshown = unshown
        self._album: Album | InputError
        try:
            self._album = Album.of_trace(trace)
        except InputError as error:
            self._album = error

    def view(self, number: int, alt: str) -> str:
        """The copy of a picture that the model saw."""
        return self._shot(lambda album: album.view(number), alt)

    def source(self, number: int, alt: str) -> str:
        """The full picture or frame that a picture comes from."""
        return self._shot(lambda album: album.source(number), alt)

    def _shot(self, pixels: Callable[[Album], Image.Image], alt: str) -> str:
        try:
            if isinstance(self._album, InputError):
                raise self._album
            return _img(pixels(self._album), alt)
        except InputError as error:
            self._unshown[error.got] += 1
            return f'<p class="missing">{escape(alt)}: {escape(error.got)}</p>'


def _img(pixels: Image.Image, alt: str) -> str:
    """A picture as a data URI."""
    scale = min(1, *(most / side for most, side in zip(_MAX_SHOWN_PX, pixels.size, strict=True)))
    width, height = (max(1, round(side * scale)) for side in pixels.size)
    if scale < 1:
        pixels = pixels.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)
    buffer = io.BytesIO()
    small = width * height <= _MAX_LOSSLESS_PX
    pixels.convert("RGB").save(buffer, "WEBP", quality=80, lossless=small, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    kind = ' class="enlarged"' if width < _ENLARGED_BELOW_PX else ""
    return (
        f'<img{kind} src="data:image/webp;base64,{data}" width="{width}" height="{height}" '
        f'loading="lazy" alt="{escape(alt)}">'
    )


def _figure(
    img: str, caption: str, marks: Iterable[_Mark] = (), kind: str = "", link: str = ""
) -> str:
    linked = f' data-link="{link}"' if link else ""
    overlay = "".join(_draw(mark) for mark in marks)
    boxes = f'<svg class="boxes" aria-hidden="true">{overlay}</svg>' if overlay else ""
    return (
        f'<figure class="{kind}"{linked}><div class="canvas">{img}{boxes}</div>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _draw(mark: _Mark) -> str:
    """One box as SVG, placed in percent so that it fits the picture at every size."""
    box = mark.box
    place = (
        f'x="{100 * box.x1:.2f}%" y="{100 * box.y1:.2f}%" '
        f'width="{100 * (box.x2 - box.x1):.2f}%" height="{100 * (box.y2 - box.y1):.2f}%"'
    )
    rects = f'<rect class="halo" {place}/><rect class="line" {place}/>'
    if not mark.turn:
        return f'<g class="box evidence">{rects}</g>'
    # The label stands on the box; into a box at the upper edge it hangs.
    top = 0 if box.y1 < 0.08 else -18
    width = 10 + 8 * len(mark.label)
    label = (
        f'<svg x="{100 * box.x1:.2f}%" y="{100 * box.y1:.2f}%" overflow="visible">'
        f'<rect class="tag" y="{top}" width="{width}" height="18"/>'
        f'<text x="{width / 2:g}" y="{top + 13}">{escape(mark.label)}</text></svg>'
    )
    return f'<g class="box {_color(mark.turn)}" data-link="{mark.link}">{rects}{label}</g>'
