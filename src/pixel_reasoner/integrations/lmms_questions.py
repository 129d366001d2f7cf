"""Conversion of lmms-eval rows to questions, and of traces to answers for its scorers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmms_eval.protocol import ChatMessages
from PIL import Image, ImageFile

from pixel_reasoner.errors import InputError
from pixel_reasoner.evals.readers import image
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.grading import matching_option
from pixel_reasoner.scoring.numbers import strip_latex
from pixel_reasoner.sources.pictures import save_cell_picture, save_picture

MEDIA = "media"
"""folder of pictures, next to the traces"""


def build_question(
    name: str, messages: Sequence[Mapping[str, Any]], home: Path, media: str = MEDIA
) -> Question:
    r"""Return the messages of a row as a question.

    Args:
        name: id of the question.
        messages: messages built by the task.
        home: root of relative paths.
        media: folder in it for pictures without a file.

    Raises:
        InputError: unsupported messages.
        OutputError: pictures cannot be written.

    >>> messages = [{"role": "user", "content": [{"type": "text", "text": "Which?\n(A) red\n(B) blue"}]}]
    >>> question = build_question("1", messages, Path())
    >>> question.text.splitlines()[0], question.options
    ('Which?', {'A': 'red', 'B': 'blue'})
    """
    texts: list[str] = []
    items: list[MediaItem] = []
    for message in ChatMessages(messages=messages).messages:
        if message.role == "assistant":
            raise InputError(
                expected="a question", got="assistant turns", fix="use --num_fewshot 0"
            )
        for part in message.content:
            if part.type == "text":
                texts.append(part.text)
            else:
                items.append(_media_item(part, home, media))
    text = "\n".join(texts).strip()
    options = options_in(text)
    return Question(
        id=name,
        text=text,
        media=tuple(items),
        answer_type=AnswerType.CHOICE if options else AnswerType.TEXT,
        options=options,
    )


def _media_item(part: Any, home: Path, media: str) -> MediaItem:
    """Return a picture or video of a message: its own file, or a file written below `home`."""
    if part.type == "image":
        return _picture(part.url, home, media)
    if part.type != "video":
        raise InputError(expected="pictures, videos and text", got=part.type, fix="leave it out")
    fields = {"path": part.url, "video_start": part.start_time, "video_end": part.end_time}
    if isinstance(part.url, dict):
        fields = {"path": part.url.get("url"), **part.url}
    path = _path(fields["path"])
    return MediaItem(
        kind="frames" if path.is_dir() else "video",
        path=str(path),
        start_s=fields.get("video_start") or 0.0,
        end_s=fields.get("video_end"),
    )


def _picture(url: Any, home: Path, media: str) -> MediaItem:
    if isinstance(url, str) and not url.startswith("data:"):
        return image(_path(url))
    folder = home / media
    written = (
        save_picture(_png(url), folder)
        if isinstance(url, Image.Image)
        else save_cell_picture(url, folder)
    )
    return image(Path(written.path).relative_to(home))


def _path(url: Any) -> Path:
    if not isinstance(url, str | Path):
        raise InputError(
            expected="a path or a picture of Pillow", got=type(url).__name__, fix="give one"
        )
    return Path(str(url).removeprefix("file://")).absolute()


@contextmanager
def reject_truncated_pictures() -> Iterator[None]:
    """Make Pillow raise on truncated pictures: lmms-eval configures it to fill them with grey, for the whole process."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


_PNG_MODES = frozenset({"1", "L", "LA", "P", "I", "I;16", "RGB", "RGBA"})


def _png(picture: Image.Image) -> bytes:
    """Return a picture as PNG: lossless, optimised for speed over size."""
    if picture.mode not in _PNG_MODES:
        picture = picture.convert("RGB")
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)
    return content.getvalue()


_OPTION = re.compile(r"(?:^[ \t]*\(?([A-J])[).:]|\(([A-J])\))[ \t]+", re.MULTILINE)


def options_in(text: str) -> dict[str, str]:
    r"""Return the options in a question by letter: one per line (`A. red`, `(A) red`), or in brackets in one line.

    >>> options_in("Which colour?\nA. red\nB. light blue\nAnswer with the letter.")
    {'A': 'red', 'B': 'light blue'}
    >>> options_in("Which colour? (A) red (B) light blue")
    {'A': 'red', 'B': 'light blue'}
    >>> options_in("Which letter is on the card?\nA. is no option alone.")
    {}
    """
    marks = list(_OPTION.finditer(text))
    letters = "".join(mark[1] or mark[2] for mark in marks)
    if len(letters) < 2 or not "ABCDEFGHIJ".startswith(letters):
        return {}
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = (
        text[mark.end() : end].partition("\n")[0] for mark, end in zip(marks, ends, strict=True)
    )
    return {letter: option.strip() for letter, option in zip(letters, options, strict=True)}


def final_answer(trace: Trace) -> str:
    r"""Return the answer of a trace for lmms-eval: the letter of a choice; an empty text for no answer.

    >>> from pixel_reasoner.schema.trace import StopReason
    >>> question = Question(id="1", text="?", media=(), answer_type="choice", options={"A": "red", "B": "blue"})
    >>> final_answer(Trace(question=question, stop=StopReason.ANSWERED, answer="(B) blue"))
    'B'
    >>> final_answer(Trace(question=question, stop=StopReason.MAX_TURNS))
    ''
    """
    answer = extract_trace_answer(trace)
    if answer is None:
        return ""
    return matching_option(answer, trace.question.options) or strip_latex(answer)
