"""Rows, files and messages as users and other projects have them, with their expected treatment.

`expected` is the reason a row is dropped for, or the fields of the question that it becomes. It was written before the code that
reads the rows. The folder of every row has `a.png` and `b.png` (200 x 100 px) and `v.mp4` (2 s at 8 frames a second).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks_fixture import _clip, base64_of, picture
from pixel_reasoner.schema.geometry import Box

NAN = float("nan")
ABSENT = object()
"""removes a key from a row"""


class OddRow(NamedTuple):
    """A row and what it becomes."""

    name: str
    row: Any
    expected: str | dict[str, Any]


def media_folder(folder: Path) -> Path:
    """Write the media of the rows."""
    (folder / "a.png").write_bytes(picture(0))
    (folder / "b.png").write_bytes(picture(9))
    _clip(folder / "v.mp4")
    return folder


def _of(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (base | changes).items() if value is not ABSENT}


def own(**changes: Any) -> dict[str, Any]:
    """A row of the neutral format."""
    media = [{"type": "image", "path": "a.png"}]
    return _of({"id": "1", "media": media, "question": "What is it?", "answer": "it"}, changes)


def short(**changes: Any) -> dict[str, Any]:
    """A row as users have it."""
    return _of({"image": "a.png", "question": "What is it?", "answer": "it"}, changes)


VIDEO = [{"type": "video", "path": "v.mp4"}]
RED = {"A": "red", "B": "blue"}
TWO = [{"type": "image", "path": "a.png"}, {"type": "image", "path": "b.png"}]
HERE = Box(0.1, 0.2, 0.9, 0.8)

OWN_ROWS = [
    # --- missing values ---
    OddRow("answer null", own(answer=None), "no_answer"),
    OddRow("answer NaN", own(answer=NAN), "no_answer"),
    OddRow("answer empty", own(answer=""), "no_answer"),
    OddRow("answer blank", own(answer=" \n"), "no_answer"),
    OddRow("answer an empty list", own(answer=[]), "no_answer"),
    OddRow("answer a list of null", own(answer=[None]), "missing_value"),
    OddRow("null among answers", own(answer=["it", None]), "missing_value"),
    OddRow("NaN among answers", own(answer=["it", NAN]), "missing_value"),
    OddRow("answer the word None", own(answer="None"), {"answer": ("None",)}),
    OddRow("answer zero", own(answer=0), {"answer": ("0",)}),
    OddRow("answer infinite", own(answer=float("inf")), "bad_value"),
    OddRow("answer true", own(answer=True), "bad_value"),
    OddRow("answer an object", own(answer={"text": "it"}), "bad_value"),
    OddRow("answer a list of lists", own(answer=[["it"]]), "bad_value"),
    OddRow("question null", own(question=None), "no_question"),
    OddRow("question NaN", own(question=NAN), "no_question"),
    OddRow("question empty", own(question=""), "no_question"),
    OddRow("question a list", own(question=["What?"]), "bad_value"),
    OddRow("id null", own(id=None), "missing_value"),
    OddRow("id NaN", own(id=NAN), "missing_value"),
    OddRow("id a list", own(id=[1]), "bad_value"),
    OddRow("id a number", own(id=7), {"id": "7"}),
    OddRow("options null", own(options=None), {"options": {}}),
    OddRow(
        "an option null", own(options={**RED, "C": None, "D": "x"}, answer="A"), "missing_value"
    ),
    OddRow(
        "last options null, as Arrow fills them",
        own(options={**RED, "C": None, "D": None}, answer="A"),
        {"options": RED, "answer": ("A",)},
    ),
    OddRow(
        "null in a list of options", own(options=["red", None, "x"], answer="red"), "missing_value"
    ),
    OddRow("media null", own(media=None), "missing_value"),
    OddRow("path null", own(media=[{"type": "image", "path": None}]), "bad_medium"),
    OddRow("optional keys null", own(category=None, boxes=None, group=NAN), {"category": ""}),
    OddRow("box null", own(boxes=[None]), "bad_box"),
    OddRow("side of a box NaN", own(boxes=[[0, 0, NAN, 40]]), "bad_box"),
    OddRow("text null", {"id": "1", "text": None, "media": []}, "no_question"),
    OddRow("text empty", {"id": "1", "text": "", "media": []}, "no_question"),
    # --- nothing is cut off ---
    OddRow("27 options", own(options=[f"o{n}" for n in range(27)], answer="o3"), "bad_options"),
    OddRow(
        "ten options",
        own(options=[f"o{n}" for n in range(10)], answer="o9"),
        {"answer": ("J",)},
    ),
    OddRow("options as lines", own(options="A. red\nB. blue", answer="B"), {"options": RED}),
    OddRow(
        "a line that is no option", own(options="A. red\nor\nB. blue", answer="B"), "bad_options"
    ),
    OddRow("a letter twice", own(options="A. red\nA. blue", answer="A"), "bad_options"),
    OddRow(
        "options with words as keys",
        own(options={"one": "x", "two": "y"}, answer="x"),
        "bad_options",
    ),
    OddRow("one option", own(options={"A": "red"}, answer="A"), "no_options"),
    OddRow(
        "a key twice",
        '{"id": "1", "media": [], "question": "?", "answer": "a", "answer": "b"}',
        "duplicate_keys",
    ),
    OddRow("a placeholder in front", own(question="<image>\nWhat?"), {"text": "What?"}),
    OddRow("a placeholder at the end", own(question="What?\n<image>"), {"text": "What?"}),
    OddRow(
        "two placeholders, one picture", own(question="<image><image>\nWhat?"), "bad_placeholder"
    ),
    OddRow(
        "two placeholders, two pictures",
        own(question="<image><image>\nWhat?", media=TWO),
        {"text": "What?"},
    ),
    OddRow(
        "one placeholder, two pictures", own(question="<image>What?", media=TWO), "bad_placeholder"
    ),
    OddRow("a placeholder within", own(question="Is <image> red?"), "bad_placeholder"),
    OddRow(
        "numbered placeholders", own(question="Is <image 1> red?"), {"text": "Is <image 1> red?"}
    ),
    OddRow("number of no picture", own(question="Is <image 2> red?"), "bad_placeholder"),
    OddRow(
        "a placeholder of a video", own(question="<video>\nWhat?", media=VIDEO), {"text": "What?"}
    ),
    OddRow("unknown key of a medium", own(media=[{"path": "a.png", "begin": 3}]), "unknown_keys"),
    OddRow(
        "a part that ends before it starts",
        own(media=[{**VIDEO[0], "start": 1.5, "end": 1}]),
        "bad_medium",
    ),
    OddRow("start NaN", own(media=[{**VIDEO[0], "start": NAN}]), {"text": "What is it?"}),
    OddRow("start negative", own(media=[{**VIDEO[0], "start": -1}]), "bad_medium"),
    OddRow("subjects without evidence", own(subjects=["the sign"]), "bad_evidence"),
    OddRow(
        "fewer findings than boxes",
        own(boxes=[[1, 2, 30, 40], [5, 6, 70, 80]], findings=["x"]),
        "bad_evidence",
    ),
    OddRow(
        "more subjects than boxes", own(boxes=[[1, 2, 30, 40]], subjects=["x", "y"]), "bad_evidence"
    ),
    OddRow("question and text", own(text="What?"), "unknown_keys"),
    # --- units ---
    OddRow("fractions without a unit", own(boxes=[[0.1, 0.2, 0.9, 0.9]]), "box_without_unit"),
    OddRow("zeros and ones", own(boxes=[[0, 0, 1, 1]]), "box_without_unit"),
    OddRow(
        "fractions called pixels",
        own(boxes=[[0.1, 0.2, 0.9, 0.8]], box_unit="pixel"),
        "box_without_unit",
    ),
    OddRow("fractions", own(boxes=[[0.1, 0.2, 0.9, 0.8]], box_unit="fraction"), {"boxes": (HERE,)}),
    OddRow("permille", own(boxes=[[100, 200, 900, 800]], box_unit="permille"), {"boxes": (HERE,)}),
    OddRow("pixels", own(boxes=[[20, 20, 180, 80]]), {"boxes": (HERE,)}),
    OddRow("one box that is not in a list", own(boxes=[20, 20, 180, 80]), {"boxes": (HERE,)}),
    OddRow(
        "width and height", own(boxes=[[20, 20, 160, 60]], box_format="xywh"), {"boxes": (HERE,)}
    ),
    OddRow(
        "fractions, width and height",
        own(boxes=[[0.1, 0.2, 0.8, 0.6]], box_unit="fraction", box_format="xywh"),
        {"boxes": (HERE,)},
    ),
    OddRow("fractions beyond 1", own(boxes=[[0.1, 0.2, 1.9, 0.8]], box_unit="fraction"), "bad_box"),
    OddRow(
        "permille beyond 1000", own(boxes=[[100, 200, 1900, 800]], box_unit="permille"), "bad_box"
    ),
    OddRow("width and height read as corners", own(boxes=[[120, 20, 60, 60]]), "bad_box"),
    OddRow("a unit nobody knows", own(boxes=[[20, 20, 180, 80]], box_unit="percent"), "bad_value"),
    OddRow(
        "a question with boxes in pixels",
        {"id": "1", "text": "?", "media": TWO[:1], "evidence": {"boxes": [[20, 20, 180, 80]]}},
        "bad_value",
    ),
    OddRow("frames from 0", own(media=VIDEO, frames=[0, 4], frame_base=0), {"frames": (1, 5)}),
    OddRow("frame 0, counted from 1", own(media=VIDEO, frames=[0]), "bad_frame"),
    OddRow("frame beyond the last", own(media=VIDEO, frames=[17]), "bad_frame"),
    OddRow("half a frame", own(media=VIDEO, frames=[1.5]), "bad_value"),
    OddRow("a frame that is true", own(media=VIDEO, frames=[True]), "bad_value"),
    OddRow("frames of a picture", own(frames=[1]), "bad_frame"),
    OddRow("seconds", own(media=VIDEO, times=[0.5]), {"frames": (5,)}),
    OddRow("seconds beyond the end", own(media=VIDEO, times=[9.0]), "bad_frame"),
    # --- as users have them ---
    OddRow("a picture", short(), {"id": "rows-1", "answer": ("it",)}),
    OddRow("a picture and an id", short(id="x"), {"id": "x"}),
    OddRow("a list of pictures", short(image=["a.png", "b.png"]), {"paths": ("a.png", "b.png")}),
    OddRow(
        "pictures", short(image=ABSENT, images=["a.png", "b.png"]), {"paths": ("a.png", "b.png")}
    ),
    OddRow("a video", short(image=ABSENT, video="v.mp4"), {"paths": ("v.mp4",)}),
    OddRow(
        "a picture as HF has it",
        short(image={"bytes": None, "path": "a.png"}),
        {"paths": ("a.png",)},
    ),
    OddRow(
        "options as a list, answer a text",
        short(options=["red", "blue"], answer="blue"),
        {"answer": ("B",), "options": RED},
    ),
    OddRow(
        "options as a list, answer a letter",
        short(options=["red", "blue"], answer="B"),
        {"answer": ("B",)},
    ),
    OddRow(
        "answer a letter with its text",
        short(options=["red", "blue"], answer="(B) blue"),
        {"answer": ("B",)},
    ),
    OddRow(
        "answer a letter with another text",
        short(options=["red", "blue"], answer="B. red"),
        "answer_not_among_options",
    ),
    OddRow(
        "answer a number among options", short(options=["3", "4"], answer=4), {"answer": ("B",)}
    ),
    OddRow(
        "answer a letter and another option's text",
        short(options=["B", "A"], answer="A"),
        "ambiguous_answer",
    ),
    OddRow(
        "answer the text of two options",
        short(options=["red", "red"], answer="red"),
        "ambiguous_answer",
    ),
    OddRow("answer an index", short(options=["red", "blue"], answer=1), "answer_not_among_options"),
    OddRow(
        "options of a count",
        short(options=["red", "blue"], answer="A", answer_type="int"),
        "bad_options",
    ),
    OddRow("no media key", short(image=ABSENT), "missing_keys"),
    OddRow("no answer key", short(answer=ABSENT), "missing_keys"),
    OddRow("other names", {"image": "a.png", "query": "?", "label": "x"}, "missing_keys"),
    OddRow("two kinds of media", short(video="v.mp4"), "bad_medium"),
    OddRow("a picture that is null", short(image=None), "missing_value"),
    OddRow("null among pictures", short(image=["a.png", None]), "bad_medium"),
    OddRow("an address", short(image="https://example.org/a.png"), "missing_file"),
    OddRow("nested 10,000 deep", '{"id": ' + "[" * 10_000 + "]" * 10_000 + "}", "not_json"),
    OddRow(
        "half a surrogate", '{"image": "a.png", "question": "\\ud800?", "answer": "x"}', "bad_value"
    ),
]
"""rows of a JSONL file `rows.jsonl`"""


def cells(**changes: Any) -> dict[str, Any]:
    """A row of a TSV as VLMEvalKit has it."""
    row = {"index": 0, "image": base64_of(), "question": "Which?", "answer": "A"}
    return _of({**row, "A": "red", "B": "blue"}, changes)


TSV_ROWS = [
    OddRow(
        "options A to J",
        cells(**dict(zip("CDEFGHIJ", "cdefghij", strict=True)), answer="J"),
        {"answer": ("J",), "num_options": 10},
    ),
    OddRow("a hole in the options' columns", cells(D="x"), "bad_options"),
    OddRow("an empty option", cells(C="", D="white"), {"options": {**RED, "D": "white"}}),
    OddRow(
        "a list of answers",
        cells(A="", B="", answer="['Exit', 'EXIT door']"),
        {"answer": ("Exit", "EXIT door")},
    ),
    OddRow(
        "a JSON list of answers",
        cells(A="", B="", answer='["Exit", "It\'s"]'),
        {"answer": ("Exit", "It's")},
    ),
    OddRow(
        "null among a list of answers", cells(A="", B="", answer='["Exit", null]'), "missing_value"
    ),
    OddRow(
        "None among a list of answers", cells(A="", B="", answer="['Exit', None]"), "missing_value"
    ),
    OddRow("an empty list of answers", cells(A="", B="", answer="[]"), "no_answer"),
    OddRow(
        "brackets that are no list",
        cells(A="", B="", answer="[unclear]"),
        {"answer": ("[unclear]",)},
    ),
    OddRow("no answer", cells(answer=""), "no_answer"),
    OddRow("answer nan", cells(answer="nan"), "no_answer"),
    OddRow("no question", cells(question=""), "no_question"),
    OddRow("no index", cells(index=""), "missing_value"),
    OddRow("a placeholder", cells(question="<image>\nWhich?"), {"text": "Which?\nA. red\nB. blue"}),
    OddRow(
        "a placeholder before the options",
        cells(question="Which? <image>"),
        {"text": "Which?\nA. red\nB. blue"},
    ),
    OddRow("two placeholders", cells(question="<image><image>Which?"), "bad_placeholder"),
    OddRow("two pictures", cells(image=str([base64_of(1), base64_of(2)])), {"num_media": 2}),
    OddRow(
        "two paths, one with an apostrophe",
        cells(image="", image_path='["a.png", "it\'s.png"]'),
        "missing_file",
    ),
    OddRow("no picture", cells(image=""), "missing_picture"),
    OddRow("answer a text of two options", cells(B="red", answer="red"), "ambiguous_answer"),
]
"""rows of a TSV"""

IMAGE = {"bytes": picture(0), "path": None}
PARQUET_ROWS = [
    OddRow("a picture's bytes", {**short(image=IMAGE), "id": "p"}, {"id": "p", "num_media": 1}),
    OddRow(
        "several pictures' bytes",
        short(image=ABSENT, images=[IMAGE, {**IMAGE, "bytes": picture(3)}]),
        {"num_media": 2},
    ),
    OddRow(
        "a picture's path", short(image={"bytes": None, "path": "a.png"}), {"paths": ("a.png",)}
    ),
    OddRow("neither bytes nor path", short(image={"bytes": None, "path": None}), "bad_medium"),
    OddRow(
        "bytes that are no picture", short(image={"bytes": b"no", "path": None}), "not_a_picture"
    ),
    OddRow("bytes alone", short(image=picture(0)), {"num_media": 1}),
    OddRow(
        "options of a struct",
        short(image=IMAGE, options={**RED, "C": None}, answer="blue"),
        {"answer": ("B",)},
    ),
    OddRow("answer null", {**short(image=IMAGE, answer=None), "category": "x"}, "no_answer"),
    OddRow(
        "a box of fractions",
        short(image=IMAGE, boxes=[[0.1, 0.2, 0.9, 0.8]], box_unit="fraction"),
        {"boxes": (HERE,)},
    ),
]
"""rows of a Parquet file of own rows, and of a data set that `datasets` saved"""


def released(**changes: Any) -> dict[str, Any]:
    """A row of PixelReasoner-RL-Data."""
    row = {"qid": "q", "question": "<image>\nWhich?", "image": ["a.png"], "answer": ["\\boxed{K}"]}
    return _of({**row, "is_video": False}, changes)


RELEASED_ROWS = [
    OddRow("as released", released(), {"text": "Which?", "answer": ("K",)}),
    OddRow("a picture's bytes", released(image=[IMAGE]), {"num_media": 1, "answer": ("K",)}),
    OddRow(
        "two placeholders, two pictures",
        released(question="<image>\n<image>\nWhich?", image=["a.png", "b.png"]),
        {"text": "Which?"},
    ),
    OddRow(
        "two placeholders, one picture",
        released(question="<image>\n<image>\nWhich?"),
        "bad_placeholder",
    ),
    OddRow("answer null", {**released(answer=None)}, "no_answer"),
    OddRow("null among answers", released(answer=["K", None]), "missing_value"),
    OddRow("a list as text with None", released(answer=["['a', None]"]), "missing_value"),
    OddRow("question null", released(question=None), "no_question"),
    OddRow("no picture", released(image=[], question="Which?"), "missing_picture"),
    OddRow("id null", released(qid=None), "missing_value"),
    OddRow(
        "a frame of a folder of two",
        released(image=["a.png"], is_video=True),
        "bad_frames",
    ),
    OddRow("frames as bytes", released(image=[IMAGE, IMAGE], is_video=True), "bad_frames"),
]
"""rows of the released Parquet format"""


def messages(*user: dict[str, Any], answer: str = "\\boxed{it}", **keys: Any) -> dict[str, Any]:
    """A row of PixelReasoner-SFT-Data with one turn."""
    turns = [
        ("system", [{"text": "Be helpful."}]),
        ("user", list(user)),
        ("assistant", [{"text": answer}]),
    ]
    return {"message_list": [{"role": role, "content": part} for role, part in turns], **keys}


TEXT = {"text": "What is it?"}
MESSAGE_ROWS = [
    OddRow("one picture", messages({"image": "a.png"}, TEXT), {"num_media": 1}),
    OddRow(
        "two pictures", messages({"image": "a.png"}, {"image": "b.png"}, TEXT), {"num_media": 2}
    ),
    OddRow("no picture", messages(TEXT), "bad_row"),
    OddRow(
        "a part that nobody knows",
        messages({"image": "a.png"}, {"audio": "x.wav"}, TEXT),
        "bad_row",
    ),
    OddRow("text null", messages({"image": "a.png"}, {"text": None}), "bad_row"),
    OddRow("picture null", messages({"image": None}, TEXT), "bad_row"),
    OddRow(
        "placeholders that fit",
        messages({"image": "a.png"}, {"text": "<image>\nWhat?"}),
        {"text": "What?"},
    ),
    OddRow(
        "placeholders that do not fit",
        messages({"image": "a.png"}, {"text": "<image><image>What?"}),
        "bad_placeholder",
    ),
    OddRow("an empty answer", messages({"image": "a.png"}, TEXT, answer="\\boxed{}"), "bad_row"),
    OddRow("no messages", {"message_list": []}, "bad_row"),
    OddRow("messages null", {"message_list": None}, "bad_row"),
    OddRow("content as text", {"message_list": [{"role": "user", "content": "image"}]}, "bad_row"),
]
"""rows for `import`"""

_GOOD = json.dumps(own(media=[]))
FILES = [
    OddRow("a byte-order mark", b"\xef\xbb\xbf" + _GOOD.encode(), ["1"]),
    OddRow(
        "Windows line ends", (_GOOD + "\r\n" + _GOOD.replace('"1"', '"2"')).encode(), ["1", "2"]
    ),
    OddRow("empty lines", f"\n{_GOOD}\n\n".encode(), ["1"]),
    OddRow("UTF-16", _GOOD.encode("utf-16"), "InputError"),
    OddRow("a NUL", _GOOD.encode() + b"\n\x00\n", ["1", "not_json"]),
    OddRow("one list", f"[{_GOOD}]".encode(), ["not_json"]),
]
"""JSONL files: ids and reasons in order, or an error"""
TSV_FILES = [
    OddRow(
        "a byte-order mark",
        b"\xef\xbb\xbfindex\tquestion\tanswer\timage\n0\t?\tx\t" + base64_of().encode(),
        ["mine-0"],
    ),
    OddRow("a column twice", b"index\tquestion\tanswer\tanswer\timage\n0\t?\tx\ty\t", "InputError"),
    OddRow(
        "a quote that never ends",
        b'index\tquestion\tanswer\timage\n0\t"?\tx\t\n1\t?\tx\t\n',
        ["broken_row"],
    ),
]
"""TSV files: ids and reasons in order, or an error"""

CONFIGS = [
    OddRow("unit of boxes", {"box_unit": "fraction"}, {"box_unit": "fraction"}),
    OddRow("unit nobody knows", {"box_unit": "percent"}, "UsageError"),
    OddRow("unit null", {"box_unit": None}, "UsageError"),
    OddRow("format nobody knows", {"box_format": "cxcywh"}, "UsageError"),
    OddRow("frames from 2", {"frame_base": 2}, "UsageError"),
    OddRow("another name", {"unit": "pixel"}, "UsageError"),
    OddRow("data null", {"data": None}, "UsageError"),
]
"""options of a source of own rows"""


def reply(**changes: Any) -> dict[str, Any]:
    """A reply of a labeller that writes a question about a region."""
    options = dict(zip("ABCD", ("red", "blue", "green", "white"), strict=True))
    words = {"question": "What colour?", "subject": "the sign", "finding": "it is red"}
    return _of({"valid": True, **words, "options": options, "answer": "A"}, changes)


_OPTIONS = reply()["options"]
REPLIES = [
    OddRow("as asked for", reply(), {"answer_text": "red"}),
    OddRow("answer a text", reply(answer="blue"), {"answer_text": "blue"}),
    OddRow("answer null", reply(answer=None), "reply_missing_fields"),
    OddRow("answer a list", reply(answer=["A"]), "answer_not_among_options"),
    OddRow("option null", reply(options={**_OPTIONS, "C": None}), "reply_missing_fields"),
    OddRow("option NaN", reply(options={**_OPTIONS, "C": NAN}), "reply_missing_fields"),
    OddRow(
        "option infinite", reply(options={**_OPTIONS, "C": -float("inf")}), "reply_missing_fields"
    ),
    OddRow("option true", reply(options={**_OPTIONS, "C": True}), "reply_missing_fields"),
    OddRow("five options", reply(options={**_OPTIONS, "E": "x"}), "reply_missing_fields"),
    OddRow("question null", reply(question=None), "reply_missing_fields"),
    OddRow("question a list", reply(question=["What?"]), "reply_missing_fields"),
    OddRow("valid as a text", reply(valid="true"), "reply_missing_fields"),
    OddRow("nested 10,000 deep", "{" + '"a":{' * 10_000, "reply_not_json"),
    OddRow("empty", "", "empty_reply"),
]
"""replies of a labeller"""
ALL = [
    *CONFIGS,
    *REPLIES,
    *OWN_ROWS,
    *TSV_ROWS,
    *PARQUET_ROWS,
    *RELEASED_ROWS,
    *MESSAGE_ROWS,
    *FILES,
    *TSV_FILES,
]
