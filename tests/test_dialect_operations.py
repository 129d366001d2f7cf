"""Dialects with any set of operations, several exchanges, and dialects of other packages."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import pairwise

import pytest

from pixel_reasoner.dialects import DIALECTS, Exchange, get_dialect
from pixel_reasoner.dialects.conformance import assert_valid_dialect, distinct_dialects
from pixel_reasoner.errors import PluginError, UnknownNameError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations.base import (
    BoxArgument,
    MediaKind,
    OperationSpec,
    PictureArgument,
)
from pixel_reasoner.operations.registry import OPERATIONS
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    ToolCall,
    Transform,
    Turn,
)

ALL = dict(DIALECTS.items())
every = pytest.mark.parametrize("dialect", ALL.values(), ids=ALL)

FINGERPRINTS = {
    "compact": ("af625e2a7d25d617", "738dce721286da6c"),
    "pixel_reasoner": ("b40fd45c26d49d36", "a8209643753772f6"),
    "qwen3_vl": ("0dc44f8c794bc24f", "dbe748a9c1a4e326"),
    "qwen2_5_vl": ("eec33849664fecd8", "9d9ee063fd649304"),
    "deepeyes": ("f2000ea3f509b6d1", "25b390ed32abfb2a"),
    "mini_o3": ("a7066f6fc3ef9596", "055539df4a0b804c"),
    "plain": ("44c4f6bf7741d910", "14e84cb809e31089"),
    "cohere_vision": ("fe65cab6dac9fb10", "14e84cb809e31089"),
    "deepseek_vl": ("3eacc6f5acf543f0", "14e84cb809e31089"),
    "deepseek_vl2": ("7dcac99df3b8fa47", "29007331308f68b9"),
    "diffusion_gemma": ("ba492c42698b8a12", "8406c2de82ad3edc"),
    "ernie4_5_vl": ("a1e337fa96d1da03", "14e84cb809e31089"),
    "gemma3": ("db366e7e2558e53b", "14e84cb809e31089"),
    "gemma4": ("03f888b4fe634bb0", "8406c2de82ad3edc"),
    "glm4v": ("e6f7d6fdd88f5c7a", "26d745f62fc35902"),
    "glm5": ("f718b6a68667d945", "26d745f62fc35902"),
    "granite_vision": ("c6fa8ff545319bab", "14e84cb809e31089"),
    "intern_s1": ("956fa190687f57e0", "26d745f62fc35902"),
    "internvl": ("1a17dd7ced659bcd", "26d745f62fc35902"),
    "kimi_k25": ("2a8878b01ed5197b", "bf60fe3181ac27b7"),
    "kimi_vl": ("89e0689835fec935", "bf60fe3181ac27b7"),
    "lfm2_vl": ("aab0e1c48abc0bbf", "14e84cb809e31089"),
    "llama4": ("7fb82d2af1b77ab7", "14e84cb809e31089"),
    "llava": ("1a25d9872210e1ee", "14e84cb809e31089"),
    "minicpm_v": ("2f4a4d49bf06d9bb", "26d745f62fc35902"),
    "minicpm_v4_5": ("016a224513c89dd4", "26d745f62fc35902"),
    "minimax_m3": ("8c884ca4c6c8a6ba", "14e84cb809e31089"),
    "mistral3": ("eafd435fd41f4c71", "14e84cb809e31089"),
    "molmo2": ("99ae400d757756bb", "14e84cb809e31089"),
    "muse": ("a15693d9d370dba8", "14e84cb809e31089"),
    "nemotron_omni": ("d3f2d05bc972f924", "14e84cb809e31089"),
    "phi4_multimodal": ("4930097974279246", "14e84cb809e31089"),
    "pixtral": ("788275a37fb79207", "14e84cb809e31089"),
    "qwen2_vl": ("4687396845f1a20c", "66ec23e022323ed0"),
    "qwen3_5": ("469da2327144d609", "dbe748a9c1a4e326"),
    "qwen3_8": ("9b3558e48074568d", "dbe748a9c1a4e326"),
    "smolvlm": ("3da1d88a86a275cb", "14e84cb809e31089"),
    "step3": ("402b87483f788c0e", "14e84cb809e31089"),
    "step3p7": ("3d23b572fd4de568", "14e84cb809e31089"),
}


def rotate(
    context: MediaContext,
    target_image: PictureArgument,
    degrees: float,
    bbox_2d: BoxArgument,
    mirrored: bool = False,
) -> list[Picture]:
    """Rotate a region of a picture clockwise.

    Args:
        context: The pictures so far.
        target_image: The number of the picture, from 1.
        degrees: The angle.
        bbox_2d: The region as [x1, y1, x2, y2], from 0 to 1.
        mirrored: Whether to mirror the region first.
    """
    return []


def describe(context: MediaContext) -> list[Picture]:
    """Describe the whole question in words.

    Args:
        context: The pictures so far.
    """
    return []


@pytest.fixture
def further_operations():
    """Two operations besides the default ones: one with arguments of all kinds, one without arguments."""
    for run in (rotate, describe):
        spec = OperationSpec.from_function(run, media=frozenset(MediaKind))
        OPERATIONS.register(spec.name, spec)
    yield
    for run in (rotate, describe):
        OPERATIONS.unregister(run.__name__)


def pictures(*parents: int | None) -> list[Picture]:
    return [
        Picture(number=n, medium=0, source_px=(640, 480), seen_px=(640, 480), parent=parent)
        for n, parent in enumerate(parents, start=1)
    ]


def asked(text: str = "Which?", kind: str = "image") -> Question:
    return Question(id="1", text=text, media=(MediaItem(kind=kind, path="a"),))


def texts_of(messages: list[dict]) -> list[str]:
    return [
        "".join(part.get("text", "<image>") for part in message["content"]) for message in messages
    ]


# --- sets of operations ---


@every
def test_fingerprints_equal_those_of_earlier_runs(dialect):
    assert (dialect.fingerprint, dialect.native_fingerprint) == FINGERPRINTS[dialect.name]
    assert dialect.compute_fingerprint(DEFAULT_OPERATIONS) == dialect.fingerprint
    assert dialect.compute_fingerprint(["zoom_in"]) != dialect.fingerprint


@every
@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_default_set_has_the_texts_of_the_family_in_any_order(dialect, kind):
    question = asked(kind=kind)
    default = dialect.messages(question, (), (), str)
    for operations in (True, DEFAULT_OPERATIONS, DEFAULT_OPERATIONS[::-1]):
        assert dialect.messages(question, (), (), str, operations=operations) == default
    without = dialect.messages(question, (), (), str, operations=False)
    assert dialect.messages(question, (), (), str, operations=()) == without != default


@every
def test_an_operation_outside_the_set_has_no_tool_definition(dialect):
    zoom, frames = map(dialect.family_name, DEFAULT_OPERATIONS)
    only_zoom = dialect.messages(asked(kind="video"), (), (), str, operations=["zoom_in"])
    only_frames = dialect.messages(asked(kind="video"), (), (), str, operations=["select_frames"])
    assert zoom in texts_of(only_zoom)[0]
    assert frames not in "".join(texts_of(only_zoom))
    assert frames in texts_of(only_frames)[0]
    assert zoom not in "".join(texts_of(only_frames))
    listed = [one["function"]["name"] for one in dialect.tool_definitions(["zoom_in"])]
    assert listed == [zoom]


def test_frame_selection_has_no_tool_definition_for_pictures():
    qwen = get_dialect("qwen3_vl")
    prompt = qwen.messages(asked(), (), (), str, operations=["select_frames"])
    assert prompt == qwen.messages(asked(), (), (), str, operations=False)
    assert qwen.tool_definitions(["select_frames"], has_video=False) == []
    assert len(qwen.tool_definitions(has_video=False)) == 1


@every
def test_an_unknown_operation_is_an_error_with_the_nearest_name(dialect):
    with pytest.raises(UnknownNameError, match="use 'zoom_in'"):
        dialect.messages(asked(), (), (), str, operations=["zoomin"])


@pytest.mark.parametrize("name", distinct_dialects())
def test_a_new_operation_conforms_in_every_dialect(name, further_operations):
    assert 0 <= assert_valid_dialect(get_dialect(name), boxes=50) <= 0.5


@every
def test_a_new_operation_follows_the_operations_of_the_family(dialect, further_operations):
    operations = ["rotate", "zoom_in"]
    system = dialect.texts(operations, has_video=False).system
    assert system.index(dialect.family_name("zoom_in")) < system.index("rotate")
    assert "degrees" in system
    assert dialect.family_name("select_frames") not in system
    names = [one["function"]["name"] for one in dialect.tool_definitions(operations)]
    assert names == [dialect.family_name("zoom_in"), "rotate"]


def call_of(dialect, name: str, **arguments: object) -> ToolCall:
    call = ToolCall(name=name, arguments=arguments)
    shown = pictures(None, 1)
    parsed = dialect.parse(dialect.write_turn("So.", call, shown), shown)
    assert parsed.errors == ()
    return parsed.executable_calls[0]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("compact", '"target_image": 2, "degrees": 12.345, "bbox_2d": [0.25, 0.50, 0.75, 1.00]'),
        ("qwen3_vl", '"img_idx": 1, "degrees": 12.345, "bbox_2d": [250, 500, 750, 1000]'),
        ("qwen2_5_vl", '"img_idx": 1, "degrees": 12.345, "bbox_2d": [160, 240, 480, 480]'),
        ("mini_o3", '"source": "observation_1", "degrees": 12.345, "bbox_2d": [0.250, 0.500, 0.750, 1.000]'),
    ],
)  # fmt: skip
def test_arguments_of_a_new_operation_are_converted_by_role(name, written, further_operations):
    dialect, shown = get_dialect(name), pictures(None, 1)
    arguments = {"target_image": 2, "degrees": 12.345, "bbox_2d": [0.25, 0.5, 0.75, 1.0]}
    call = ToolCall(name="rotate", arguments=arguments)
    assert written in dialect.write_call(call, shown)
    assert dialect.parse(dialect.write_call(call, shown), shown).executable_calls == [call]
    bad = dialect.write_call(call, shown).replace("degrees", "angle")
    if dialect.argument_names:
        (error,) = dialect.parse(bad, shown).errors
        assert (error.kind, error.call) == (CallErrorKind.BAD_ARGUMENTS, 0)
        assert error.message.startswith("there is no argument 'angle'; use ")


def test_calls_without_a_picture_number_use_the_first_picture(further_operations):
    deepeyes = get_dialect("deepeyes")
    text = '<tool_call>{"name": "rotate", "arguments": {"degrees": 90}}</tool_call>'
    (call,) = deepeyes.parse(text, pictures(None, 1)).executable_calls
    assert call == ToolCall(name="rotate", arguments={"target_image": 1, "degrees": 90})


def test_errors_of_a_new_operation_use_the_terms_of_the_family(further_operations):
    qwen = get_dialect("qwen3_vl")
    call = ToolCall(name="rotate", arguments={"target_image": 9})
    why = Observation(text="target_image must be an integer; see zoom_in", error="bad_arguments")
    turn = Turn(text="", parts=(call,), observations=(why,))
    prompt = qwen.messages(asked(), (), [turn], str)
    assert "img_idx must be an integer; see image_zoom_in_tool" in texts_of(prompt)[-1]


@pytest.mark.parametrize("name", sorted(name for name in ALL if ALL[name].tools))
@pytest.mark.parametrize("operations", [True, ["zoom_in"], ["rotate"]])
def test_the_system_message_for_native_tools_has_no_tool_definitions(
    name, operations, further_operations
):
    dialect = get_dialect(name)
    prompt = dialect.messages(asked(), (), (), str, operations=operations)
    native = dialect.with_native_system(prompt, operations, has_video=False)
    has_role = dialect.carriage.system_role
    assert len(native) == 1 + (bool(dialect.native_system) and has_role)
    text = "".join(texts_of(native[:-1] if has_role else native))
    assert "<tools>" not in text
    assert "rotate" not in text
    assert texts_of(native)[-1].endswith("Which?" + dialect.texts(operations, False).suffix)
    assert native[-1] == prompt[-1] or not has_role
    without = dialect.messages(asked(), (), (), str, operations=False)
    assert dialect.with_native_system(without, False, has_video=False) == without


@every
def test_instructions_of_a_client_join_the_one_part_of_the_system_text(dialect):
    prompt = dialect.messages(asked(), (), (), str)
    told = dialect.with_system(prompt, "Answer in French.")
    system = dialect.texts(True, has_video=False).system
    assert len(told) == len(prompt)
    if dialect.carriage.system_role:
        assert told[0]["content"] == [{"type": "text", "text": f"{system}\n\nAnswer in French."}]
        assert told[1:] == prompt[1:]
        (alone,) = dialect.with_system([{"role": "user", "content": []}], "Hi")[:1]
        assert alone["role"] == "system"
    else:
        assert texts_of(told)[0] == f"Answer in French.\n\n{texts_of(prompt)[0]}"


# --- results ---


@every
def test_several_results_of_a_turn_are_returned_in_order(dialect):
    shown = pictures(None, 1, 1)
    crops = [Observation(text="", pictures=(one,), call=n) for n, one in enumerate(shown[1:])]
    wrong = Observation(text="no {box}", error=CallErrorKind.BAD_BOX, call=2)
    turn = Turn(text="I look.", observations=(*crops, wrong))
    *_, results = dialect.messages(asked(), shown[:1], [turn], lambda number: number)
    images = [part["image"] for part in results["content"] if part["type"] == "image"]
    assert images == [2, 3]
    text = texts_of([results])[0]
    assert text.rindex("<image>") < text.index("no {box}")


@every
def test_a_result_without_pictures_is_returned_as_text(dialect):
    turn = Turn(text="I measure.", observations=(Observation(text="{12} px"),))
    *_, results = dialect.messages(asked(), pictures(None), [turn], str)
    assert "{12} px" in texts_of([results])[0]


def test_a_transformed_picture_is_not_called_a_crop():
    crop = pictures(None, 1)[1]
    turned = crop.model_copy(update={"transforms": (Transform(name="rotate"),)})
    for name, word in (("pixel_reasoner", "cropped"), ("mini_o3", "zoom-in")):
        dialect = get_dialect(name)
        assert word in dialect.result_labels([crop], 1)[0]
        assert word not in dialect.result_labels([turned], 1)[0]


# --- conversations ---


def conversation(dialect):
    """Return two finished exchanges and a third question. Pictures 1 and 3 are of questions, 2 and 4 are results."""
    shown = pictures(None, 1, None, 3)
    results = [Turn(text="I look.", observations=(Observation(text="", pictures=(shown[n],)),)) for n in (1, 3)]  # fmt: skip
    answered = Turn(text="<think>\n So. </think> It is red.")
    history = [
        Exchange(asked("First?"), shown[:1], [results[0], answered]),
        Exchange(asked("Second?"), shown[2:3], [results[1]]),
    ]
    return history, shown


@every
def test_a_further_question_continues_the_conversation(dialect):
    history, _ = conversation(dialect)
    first, second = history
    prompts = [
        dialect.messages(first.question, first.pictures, first.turns, str),
        dialect.messages(second.question, second.pictures, second.turns, str, history=[first]),
    ]
    last = dialect.messages(asked("Third?", kind="video"), (), (), str, history=history)
    assert prompts[1][: len(prompts[0])] == prompts[0]
    if prompts[1][-1]["role"] == "user":  # it ended with a result: the question joins its message
        assert last[: len(prompts[1]) - 1] == prompts[1][:-1]
        assert texts_of(last)[-1].startswith(texts_of(prompts[1])[-1])
    else:
        assert last[: len(prompts[1])] == prompts[1]
    texts = texts_of(last)
    assert sum("It is red." in text for text in texts) == 1
    assert [sum(f"{nth}?" in text for text in texts) for nth in ("First", "Second", "Third")] == [
        1
    ] * 3
    roles = [message["role"] for message in last]
    assert all(one != other for one, other in pairwise(roles))
    has_system = bool(dialect.system_with_operations) and dialect.carriage.system_role
    assert roles.count("system") == has_system


def test_pictures_of_later_questions_keep_their_labels():
    mini = get_dialect("mini_o3")
    history, shown = conversation(mini)
    texts = texts_of(mini.messages(asked("Third?"), (), (), str, history=history))
    assert "Observation 1)" in texts[3]
    assert "Observation 2)" in texts[-1]
    names = ["original_image", "observation_1", "original_image_2", "observation_2"]
    for number, name in enumerate(names, start=1):
        assert mini.picture_names.name(number, shown) == name
        assert mini.picture_names.number(name, shown) == number
    assert mini.picture_names.number("observation_3", shown) > len(shown)
    assert "'observation_1' to 'observation_2'" in mini.picture_names.valid_names(shown)


# --- dialects of other packages ---

PLUGIN = """
from dataclasses import replace
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.detect import ModelMatch

MINE = replace(
    get_dialect("qwen3_vl"),
    name="mine",
    models="my models",
    match=ModelMatch(checkpoints="my-model"),
    suffix_with_operations=" Look.",
)
"""


@pytest.fixture
def distribution(tmp_path):
    """Distribution with a valid dialect, one with an import error, and one under a wrong name."""
    (tmp_path / "my_dialect.py").write_text(PLUGIN)
    (tmp_path / "broken_dialect.py").write_text("import no_such_package\n")
    info = tmp_path / "my_dialect-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-dialect\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[pixel_reasoner.dialects]\n"
        "mine = my_dialect:MINE\nbroken = broken_dialect:X\nother = my_dialect:MINE\n"
    )
    return tmp_path


def test_a_dialect_of_another_package_is_one_file(distribution):
    code = """
    from pixel_reasoner.dialects import CALL_TAGS, DIALECTS, detect_dialect, get_dialect
    from pixel_reasoner.errors import PluginError
    assert get_dialect("mine").models == "my models"
    assert detect_dialect("me/my-model-7b") is get_dialect("mine")
    assert detect_dialect("gpt-9").name == "plain"
    assert ("<tool_call>", "</tool_call>") in CALL_TAGS
    assert {"mine", "compact"} <= set(DIALECTS)
    for name, words in (("broken", "no_such_package"), ("other", "'mine'")):
        try:
            get_dialect(name)
        except PluginError as error:
            assert words in str(error), error
        else:
            raise AssertionError(name)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=True,
        env={"PYTHONPATH": ":".join([str(distribution), *sys.path])},
    )


def test_two_dialects_of_one_name_are_an_error():
    with pytest.raises(PluginError, match="rename"):
        DIALECTS.register("compact", replace(get_dialect("plain"), name="compact"))
