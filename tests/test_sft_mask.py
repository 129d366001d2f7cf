"""Loss mask of SFT: trained tokens equal expectations written by hand, for each kind of trace."""

from __future__ import annotations

import random
import re

import pytest

from pixel_reasoner.data.encode import encode
from pixel_reasoner.data.expert import ExpertConfig, Kind, expert_trace
from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import InputError, ModelError
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.repairs import Repair, RepairKind
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.world import all_questions, make_scene, write_media
from pixel_reasoner.world.render import build_media_item

ZOOM = '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [BOX], "target_image": N}}\n</tool_call>'
SELECT = (
    '<tool_call>\n{"name": "select_frames", "arguments": {"target_frames": [FRAMES]}}\n</tool_call>'
)
END = "<|im_end|>"
EXPECTED = {
    ("attribute", Kind.SINGLE): [f"WORDS\n{ZOOM}{END}", f"WORDS BOXED{END}"],
    ("attribute", Kind.TOO_WIDE): [f"WORDS\n{ZOOM}{END}"] * 2 + [f"WORDS BOXED{END}"],
    ("attribute", Kind.WRONG_ONCE): ["WORDS\n", f"WORDS\n{ZOOM}{END}", f"WORDS BOXED{END}"],
    ("attribute", Kind.WRONG_TWICE): ["WORDS\n"] * 2 + [f"WORDS\n{ZOOM}{END}", f"WORDS BOXED{END}"],
    ("attribute", Kind.REFUSED): ["WORDS\n", f"WORDS\n{ZOOM}{END}", f"WORDS BOXED{END}"],
    ("attribute", Kind.TEXT): [f"WORDS BOXED{END}"],
    ("video", Kind.SINGLE): [f"WORDS\n{SELECT}{END}", f"WORDS BOXED{END}"],
    ("video", Kind.RESELECT): ["WORDS\n", f"WORDS\n{SELECT}{END}", f"WORDS BOXED{END}"],
    ("video", Kind.REFUSED): ["WORDS\n", f"WORDS\n{SELECT}{END}", f"WORDS BOXED{END}"],
    ("video", Kind.TEXT): [f"WORDS BOXED{END}"],
}
"""what is trained, span by span, with changing parts named"""


@pytest.fixture(scope="module")
def processor():
    return load_processor(str(BUNDLED_MODELS["tiny"]))


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Return a function (family, kind) -> trace."""
    folder = tmp_path_factory.mktemp("scenes")
    config = ExpertConfig(COMPACT, folder_settings(BUNDLED_MODELS["tiny"]).budgets)

    def make(family: str, kind: Kind) -> Trace:
        scene = make_scene(family, 2)
        path = folder / build_media_item(scene).path
        if not path.exists():
            write_media(scene, path)
        questions = [
            with_media_root(q, folder) for q in all_questions(scene, build_media_item(scene))
        ]
        wanted = [q for q in questions if q.needs_look is (kind is not Kind.TEXT)]
        return expert_trace(wanted[0], kind, random.Random(1), config)

    return make


def trained_spans(trace: Trace, processor, **options) -> list[str]:
    encoded = encode(trace, processor, **options)
    spans, before = [], False
    for token, trained in zip(encoded.token_ids, encoded.trained, strict=True):
        if trained:
            spans = [*spans, ""] if not before else spans
            spans[-1] += processor.tokenizer.decode([token])
        before = trained
    return spans


def shape(span: str) -> str:
    """Return a span with its words, numbers and answer replaced by names."""
    call = span.find("<tool_call>")
    words, rest = (span, "") if call < 0 else (span[:call], span[call:])
    rest = re.sub(r"\[[\d., ]+\](?=, \"target_image\")", "[BOX]", rest)
    rest = re.sub(r"\"target_image\": \d+", '"target_image": N', rest)
    rest = re.sub(r"(?<=\"target_frames\": )\[[\d, ]+\]", "[FRAMES]", rest)
    words = re.sub(r"\\boxed\{[^}]*\}", "BOXED", words)
    words = re.sub(r"^[^<\n]+?(?=\n| BOXED|$)", "WORDS", words)
    return words + rest


@pytest.mark.parametrize(("family", "kind"), EXPECTED)
def test_trained_tokens_equal_the_expected_ones(write, processor, family, kind):
    trace = write(family, kind)
    assert [shape(span) for span in trained_spans(trace, processor)] == EXPECTED[family, kind]


@pytest.mark.parametrize(("family", "kind"), EXPECTED)
def test_every_trained_turn_has_one_end_token(write, processor, family, kind):
    trace = write(family, kind)
    encoded = encode(trace, processor)
    end = processor.tokenizer.convert_tokens_to_ids(END)
    ends = [
        t for t, yes in zip(encoded.token_ids, encoded.trained, strict=True) if yes and t == end
    ]
    assert len(ends) == sum(not turn.mistake for turn in trace.turns)


def test_the_thought_before_a_deliberate_mistake_may_be_masked(write, processor):
    trace = write("attribute", Kind.WRONG_TWICE)
    all_spans = trained_spans(trace, processor)
    fewer = trained_spans(trace, processor, train_thoughts_before_mistakes=False)
    assert fewer == all_spans[2:]


def test_a_turn_with_a_repaired_call_is_not_trained(write, processor):
    trace = write("attribute", Kind.SINGLE)
    repair = Repair(kind=RepairKind.END_TAG, call=0)
    turns = (trace.turns[0].model_copy(update={"repairs": (repair,)}), *trace.turns[1:])
    spans = trained_spans(trace.model_copy(update={"turns": turns}), processor)
    assert [shape(span) for span in spans] == [f"WORDS BOXED{END}"]


def test_no_token_of_an_observation_is_trained(write, processor):
    for family, kind in EXPECTED:
        encoded = encode(write(family, kind), processor)
        pad = processor.image_token_id
        assert pad in encoded.token_ids
        assert not any(
            yes for t, yes in zip(encoded.token_ids, encoded.trained, strict=True) if t == pad
        )


def test_pictures_that_the_image_processor_would_resize_are_refused(write, processor):
    other = load_processor(str(BUNDLED_MODELS["tiny"]))
    other.image_processor.size["shortest_edge"] = 512 * 512
    with pytest.raises(InputError, match=r"px in trace attribute-.*--model"):
        encode(write("attribute", Kind.SINGLE), other)


def test_a_template_without_markers_gives_the_same_mask(write, processor):
    trace = write("attribute", Kind.SINGLE)
    plain = load_processor(str(BUNDLED_MODELS["tiny"]))
    plain.chat_template = re.sub(r"\{%-? ?(end)?generation ?-?%\}", "", processor.chat_template)
    found, expected = encode(trace, plain), encode(trace, processor)
    assert (found.token_ids, found.trained) == (expected.token_ids, expected.trained)


def test_a_template_that_changes_turns_and_has_no_markers_is_refused(write, processor):
    plain = load_processor(str(BUNDLED_MODELS["tiny"]))
    plain.chat_template = (
        "{% for m in messages %}{{ m.role }}:{% for p in m.content %}"
        "{{ '<|vision_start|><|image_pad|><|vision_end|>' if p.type == 'image' else p.text | upper }}"
        "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with pytest.raises(ModelError, match=r"changes the text of a turn.*generation"):
        encode(write("attribute", Kind.SINGLE), plain)
