"""Local model: a transformers model folder as a generation model, tested with the bundled model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine_fixture import world_questions
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.models import local_weights
from pixel_reasoner.models.api import Completion, ContextFull
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import PixelBudget, RolloutConfig, SamplingParams


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel("tiny")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    return world_questions(tmp_path_factory.mktemp("scenes"), seed=50, attribute=5, video=3)


def conversation(question: Question, model: LocalModel) -> list[dict]:
    return Rollout(question, model, RolloutConfig()).messages()


def test_the_weights_are_small_enough_to_ship():
    assert sum(file.stat().st_size for file in BUNDLED_MODELS["tiny"].iterdir()) <= 16 * 2**20


def test_pictures_have_sizes_that_the_image_processor_does_not_change(tmp_path, questions):
    """A second resize would make the coordinates of the prompt wrong."""
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED_MODELS["tiny"], folder)
    stored = json.loads((folder / "processor_config.json").read_text())
    stored["image_processor"]["size"] = {"shortest_edge": 96 * 96, "longest_edge": 160 * 160}
    (folder / "processor_config.json").write_text(json.dumps(stored))
    model = LocalModel(str(folder))
    trace = ask(questions[0], model, RolloutConfig(sampling=SamplingParams(max_new_tokens=64)))
    assert trace.pictures[0].seen_px == (160, 160)
    assert trace.settings.budgets.picture == PixelBudget(min_px=160 * 160, max_px=160 * 160)
    assert trace.settings.budgets.frame == PixelBudget(min_px=96 * 96, max_px=96 * 96)
    assert LocalModel("tiny").budgets == folder_settings(BUNDLED_MODELS["tiny"]).budgets


def test_the_stored_dtype_is_kept_if_the_cpu_supports_it(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED_MODELS["tiny"], folder)
    weights = load_file(folder / "model.safetensors")
    halved = {name: one.bfloat16() for name, one in weights.items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    stored = json.loads((folder / "config.json").read_text())
    config = json.dumps(stored).replace('"float32"', '"bfloat16"')
    (folder / "config.json").write_text(config)
    for able, kept in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(local_weights, "has_16_bit_products", lambda able=able: able)
        assert LocalModel(str(folder), device="cpu").describe().dtype == kept
        assert LocalModel("tiny", device="cpu").describe().dtype == "float32"
    assert LocalModel(str(folder), device="cpu", dtype="float32").describe().dtype == "float32"
    with pytest.raises(UsageError, match="--dtype float32, bfloat16, float16"):
        LocalModel("tiny", dtype="int8")


def test_16_bit_weights_give_nearly_the_accuracy_of_32_bits(questions):
    rules = RolloutConfig(sampling=SamplingParams(max_new_tokens=64))
    traces = list(ask_many(questions, LocalModel("tiny", dtype="bfloat16"), rules))
    right = sum(trace.answer in trace.question.answer for trace in traces)
    assert right >= len(questions) - 2


def test_a_batch_generates_the_tokens_of_single_questions(model, questions):
    rules = RolloutConfig(sampling=SamplingParams(max_new_tokens=64))
    alone = {q.id: ask(q, model, rules) for q in questions}
    together = {t.question.id: t for t in ask_many(questions, model, rules, batch_size=8)}
    assert [t.text for i in alone for t in alone[i].turns] == [
        t.text for i in alone for t in together[i].turns
    ]


def test_token_ids_decode_to_the_text_and_have_logprobs(model, questions):
    (completion,) = model.generate(
        [conversation(questions[0], model)], SamplingParams(max_new_tokens=64)
    )
    assert isinstance(completion, Completion)
    assert not completion.truncated
    assert model.tokenizer.decode(list(completion.token_ids[:-1])) == completion.text
    assert len(completion.token_ids) == len(completion.logprobs)
    assert all(logprob <= 0 for logprob in completion.logprobs)


def test_logprobs_equal_those_of_a_forward_pass(model, questions):
    messages = conversation(questions[0], model)
    (completion,) = model.generate([messages], SamplingParams(max_new_tokens=64))
    inputs = model.prompt_inputs([messages])
    ids = torch.cat([inputs["input_ids"], torch.tensor([list(completion.token_ids)])], dim=1)
    more = torch.zeros(1, len(completion.token_ids), dtype=torch.long)
    inputs = {
        **inputs,
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], more], dim=1),
    }
    with torch.no_grad():
        logits = model.model(**inputs).logits[0, -len(completion.token_ids) - 1 : -1]
    forward = torch.log_softmax(logits, -1).gather(
        1, torch.tensor(list(completion.token_ids))[:, None]
    )
    assert torch.allclose(forward[:, 0], torch.tensor(list(completion.logprobs)), atol=1e-3)


def test_input_pictures_have_the_size_that_the_trace_records(model, questions):
    rollout = Rollout(questions[0], model, RolloutConfig())
    inputs = model.prompt_inputs([rollout.messages()])
    width, height = rollout.pictures[0].seen_px
    assert inputs["image_grid_thw"][0].tolist() == [1, height // 16, width // 16]


def test_sampling_depends_on_the_seed_and_not_on_the_batch(model, questions):
    hot = SamplingParams(max_new_tokens=24, temperature=1.5, seed=3)
    messages = [conversation(question, model) for question in questions]
    together = [completion.text for completion in model.generate(messages, hot)]
    alone = [model.generate([one], hot)[0].text for one in messages]
    assert together == alone
    other = model.generate(messages, hot.model_copy(update={"seed": 4}))
    assert [completion.text for completion in other] != together


def test_a_truncated_turn_is_marked(model, questions):
    (completion,) = model.generate(
        [conversation(questions[0], model)], SamplingParams(max_new_tokens=3)
    )
    assert completion.truncated
    assert len(completion.token_ids) == 3


def test_a_conversation_that_exceeds_the_context_fails_alone(model, questions):
    picture = next(q for q in questions if q.media[0].kind == "image")
    clip = next(q for q in questions if q.media[0].kind == "video")
    tight = SamplingParams(max_new_tokens=64, max_context_tokens=220)
    first, second = model.generate([conversation(q, model) for q in (clip, picture)], tight)
    assert isinstance(first, ContextFull)
    assert isinstance(second, Completion)


def test_streamed_text_equals_the_text(model, questions):
    pieces: list[str] = []
    (completion,) = model.generate(
        [conversation(questions[0], model)], SamplingParams(max_new_tokens=64), pieces.append
    )
    assert "".join(pieces) == completion.text
    assert len(pieces) > 2


def test_settings_identify_weights_and_template(model):
    description = model.describe()
    assert description.architecture == "Qwen3VLForConditionalGeneration"
    assert len(description.weights) == len(description.template) == 16
    assert Path(description.name).name == "tiny"


# --- folders without settings ---


def foreign(folder: Path, **settings: str) -> Path:
    """Copy the bundled model without its settings, like a folder of another family."""
    shutil.copytree(BUNDLED_MODELS["tiny"], folder)
    (folder / "pixel_reasoner.json").unlink()
    for name, text in settings.items():
        (folder / f"{name}.jinja").write_text(text, encoding="utf-8")
    return folder


def retyped(folder: Path, model_type: str) -> Path:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = model_type
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_the_settings_of_a_folder_without_them_follow_from_its_config(tmp_path):
    folder = foreign(tmp_path / "mine")
    assert LocalModel(str(folder)).dialect == "qwen3_vl"
    assert LocalModel(str(folder), dialect="plain").dialect == "plain"


@pytest.mark.parametrize(
    ("name", "settings", "dialect_name"),
    [
        ("mine", None, "qwen2_5_vl"),
        ("DeepEyes-7B", None, "deepeyes"),
        ("DeepEyes-7B", {"note": "hello"}, "deepeyes"),
        ("DeepEyes-7B", {"dialect": "compact"}, "compact"),
        ("DeepEyes-Mini-o3", {"dialect": "compact"}, "compact"),
    ],
)
def test_settings_in_the_folder_override_detection(tmp_path, name, settings, dialect_name):
    folder = retyped(foreign(tmp_path / name), "qwen2_5_vl")
    if settings is not None:
        (folder / "pixel_reasoner.json").write_text(json.dumps(settings), encoding="utf-8")
    assert folder_settings(folder).dialect == dialect_name
    assert folder_settings(folder, "plain").dialect == "plain"


def test_a_model_type_without_a_dialect_has_a_note_with_the_next_step(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "new_family"}')
    settings = folder_settings(tmp_path)
    assert settings.dialect == "plain"
    assert "No dialect is known for model type new_family" in settings.note
    assert "--dialect names another" in settings.note
    assert folder_settings(tmp_path, "qwen3_vl").note == ""


@pytest.mark.parametrize("old", [False, True], ids=["size", "min_pixels"])
def test_written_budgets_give_sizes_that_the_image_processor_does_not_change(tmp_path, old):
    folder = foreign(tmp_path / "mine")
    stored = json.loads((folder / "processor_config.json").read_text())
    ours = stored["image_processor"]
    ours["size"] = {"shortest_edge": 65_536, "longest_edge": 1_048_576}
    if old:
        ours |= {"min_pixels": 65_536, "max_pixels": 1_048_576}
        ours["size"] = {"shortest_edge": 28, "longest_edge": 28}
        (folder / "preprocessor_config.json").write_text(json.dumps(ours))
        del stored["image_processor"]
    (folder / "processor_config.json").write_text(json.dumps(stored))
    budgets = folder_settings(folder).budgets
    assert budgets == get_dialect("qwen3_vl").budgets.within(65_536, 1_048_576)
    assert LocalModel(str(folder)).budgets == budgets


def test_a_chat_template_in_any_of_its_files_is_used_for_detection(tmp_path):
    folder = retyped(foreign(tmp_path / "mine", chat_template="<grounding>"), "qwen2_5_vl")
    assert folder_settings(folder).dialect == "mini_o3"
    (folder / "chat_template.jinja").unlink()
    assert folder_settings(folder).dialect == "qwen2_5_vl"
    stored = json.dumps({"chat_template": "crop_image_normalized"})
    (folder / "tokenizer_config.json").write_text(stored, encoding="utf-8")
    assert folder_settings(folder).dialect == "pixel_reasoner"


def test_two_matching_dialects_are_an_error_before_weights_are_loaded(tmp_path):
    folder = retyped(foreign(tmp_path / "DeepEyes-Mini-o3"), "qwen2_5_vl")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="matches deepeyes and mini_o3 equally well"):
        LocalModel(str(folder))


DEAF = """{%- for message in messages -%}{%- if message.role != 'system' -%}<|im_start|>{{ message.role }}
{% for part in message.content -%}{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}{%- endfor %}<|im_end|>
{% endif -%}{%- endfor -%}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""


def test_a_template_without_tool_support_is_an_error_unless_operations_are_off(tmp_path):
    folder = str(foreign(tmp_path / "mine", chat_template=DEAF))
    with pytest.raises(ModelError, match="leaves out the system message") as error:
        LocalModel(folder)
    assert folder in str(error.value)
    assert LocalModel(folder, operations=False).dialect == "qwen3_vl"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_the_templates_of_the_families_support_operations(tmp_path, family):
    trl = pytest.importorskip("trl")
    template = Path(trl.__file__).parent / "chat_templates" / f"{family}.jinja"
    text = template.read_text(encoding="utf-8")
    folder = foreign(tmp_path / "mine", chat_template=text)
    assert LocalModel(str(folder), dialect=family).dialect == family
