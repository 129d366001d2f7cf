"""Command `check-model`: what it says about folders, and its errors with the next step."""

from __future__ import annotations

import json
import shutil

import pytest
from transformers import AutoTokenizer

from families import RECIPES, build_folder
from pixel_reasoner.models.check_model import check_model

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_folder(RECIPES["qwen3_vl"], tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "model")


def refused(run, folder, *words: str, **options) -> str:
    """Assert exit code 2 and one line per problem with the next step, and return them."""
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    code, out, err = run("check-model", folder, *arguments)
    assert (code, err) == (2, "")
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert problems
    assert all("; got " in line and ". Fix: " in line for line in problems)
    for word in words:
        assert word in "\n".join(problems)
    return "\n".join(problems)


def test_a_complete_folder_gives_one_page(run, folder):
    code, out, err = run("check-model", folder)
    assert (code, err) == (0, "")
    for line in (
        "dialect: qwen3_vl",
        "  config: Qwen3VLConfig, model type qwen3_vl",
        "  processor: Qwen3VLProcessor",
        "  tested: yes, this one (TRL qwen3_vl)",
        "  pictures of operation results: carried",
        "  thoughts of earlier turns: kept",
        "  several questions: carried",
        "  tools as a variable: yes",
        "  a call after decoding: unchanged",
        "  generation: engine (family qwen3_vl), with a KV cache per conversation",
    ):
        assert line in out.splitlines()
    assert "<|im_start|>assistant" in out
    assert len(out.splitlines()) < 100


def test_the_counted_tokens_are_those_of_the_processor(run, folder):
    code, out, _ = run("check-model", folder, "--json")
    assert code == 0
    found = json.loads(out)
    # 224 x 192 px of 32 x 32 px per token, and the marks of begin and end
    assert found["tokens"]["overview"] == "50 tokens for 1600 x 1200 px, sent as 256 x 192 px"
    assert found["problems"] == []


def test_another_template_is_named_with_the_tested_one(folder):
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "{# changed #}")
    tested = check_model(str(folder)).template["tested"]
    assert tested.startswith(
        "template differs from the one tested with: 3636d0f0bd6bef02 (TRL qwen3_vl)"
    )


def test_a_model_type_that_transformers_does_not_know_is_refused(run, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "new_vlm"}))
    refused(run, folder, "new_vlm", "update transformers, or serve the model and use --endpoint")


def test_a_model_type_without_a_chat_is_refused_with_the_reason(run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "florence2"}))
    refused(run, tmp_path, "florence2: it answers fixed task prompts and has no chat template")


def test_a_family_without_a_dialect_is_refused_unless_plain_is_chosen(run, tmp_path):
    folder = build_folder(RECIPES["video_llama_3"], tmp_path / "model")
    refused(
        run,
        folder,
        "video_llama_3",
        "try --dialect plain, or write one: pixel-reasoner new dialect",
    )
    code, out, _ = run("check-model", folder, "--dialect", "plain")
    assert code == 0, out
    assert (
        "generation: `generate` of transformers runs this model, because the engine has no family video_llama_3"
        in out
    )


def test_a_folder_without_a_processor_is_refused(run, folder):
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(run, folder, "processor and tokenizer files", "copy the whole folder")


def test_a_folder_without_a_template_is_refused(run, folder):
    (folder / "chat_template.jinja").unlink()
    refused(run, folder, "a chat template (chat_template.jinja)", "copy the whole folder")


def test_a_template_that_raises_is_refused_with_its_message(run, folder):
    path = folder / "chat_template.jinja"
    path.write_text("{{ raise_exception('no pictures today') }}")
    refused(run, folder, "rejects it: no pictures today", "correct the template in the folder")


def test_a_template_that_leaves_out_the_tools_is_refused(run, folder):
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages if m.role != 'system' %}{{ m.role }}{% for p in m.content %}"
        "{{ '<|vision_start|><|image_pad|><|vision_end|>' if p.type == 'image' else p.text }}"
        "{% endfor %}{% endfor %}"
    )
    refused(run, folder, "leaves out the system message with the operations")


def test_a_tokenizer_without_the_placeholder_is_refused(run, folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(path.read_text().replace("<|image_pad|>", "<|other_pad|>"))
    assert "<|image_pad|>" not in AutoTokenizer.from_pretrained(folder).get_vocab()
    refused(run, folder, "a tokenizer with the placeholder <|image_pad|>", "copy tokenizer.json")


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    assert check_model(str(folder)).files["weights"] == "missing: model.safetensors"
