"""Models of training runs: module groups of families, merged LoRA, and weights gathered before they are saved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForImageTextToText, Trainer, TrainingArguments

from engine_fixture import world_questions
from pixel_reasoner.errors import ModelError
from pixel_reasoner.models.folder import folder_settings
from pixel_reasoner.models.local import LocalModel, load_processor
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace, load_traces
from pixel_reasoner.train.distributed import has_sharded_weights, module_groups
from pixel_reasoner.train.weights import load_weights, save_model
from sharded_fixture import TINY, changed_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def saved(model, folder: Path) -> Path:
    """Write the folder as a run with one process does, and return it."""
    args = TrainingArguments(output_dir=str(folder / "trainer"), use_cpu=True, report_to="none")
    trainer = Trainer(model=model, args=args)
    assert not has_sharded_weights(trainer)
    save_model(trainer, load_processor(str(TINY)), folder_settings(TINY), folder / "model")
    return folder / "model"


def logits(model) -> torch.Tensor:
    """Return the logits of a prompt with a picture."""
    processor = load_processor(str(TINY))
    from PIL import Image

    picture = Image.linear_gradient("L").resize((192, 192)).convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "Which letter?"}]
    inputs = processor.apply_chat_template(
        [[{"role": "user", "content": content}]],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_a_merged_lora_has_the_outputs_of_the_adapted_model(tmp_path):
    adapted = changed_model(lora_rank=4)
    before, plain = logits(adapted), logits(LocalModel("tiny").model)
    folder = saved(adapted, tmp_path)
    merged = AutoModelForImageTextToText.from_pretrained(folder)
    assert torch.allclose(logits(merged), before, atol=1e-4)
    assert not torch.allclose(before, plain, atol=1e-2), "the adapter changes outputs"
    assert set(merged.state_dict()) == set(LocalModel("tiny").model.state_dict())


def parse_answers(folder: Path, media: Path) -> list[Trace]:
    """Answers in the order of the questions."""
    config = RolloutConfig(sampling=SamplingParams(max_new_tokens=128))
    questions = world_questions(media, 0, attribute=2)
    finished = {
        trace.question.id: trace for trace in ask_many(questions, LocalModel(str(folder)), config)
    }
    return [finished[question.id] for question in questions]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    """Output of two processes: a folder for each LoRA rank."""
    folder = tmp_path_factory.mktemp("sharded")
    script = Path(__file__).parent / "sharded_fixture.py"
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    done = subprocess.run(
        [*launch, str(script), str(folder), "0", "4"],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 4], ids=["all weights", "lora"])
def test_sharded_weights_are_saved_and_validated_as_in_one_process(tmp_path, sharded, lora_rank):
    two = sharded / str(lora_rank)
    one = saved(changed_model(lora_rank), tmp_path / "one")
    states = [
        AutoModelForImageTextToText.from_pretrained(folder).state_dict()
        for folder in (one, two / "model")
    ]
    assert set(states[0]) == set(states[1])
    for name, weight in states[0].items():
        assert torch.allclose(weight, states[1][name], atol=1e-6), name
    files = [{path.name for path in folder.iterdir()} for folder in (one, two / "model")]
    assert files[0] == files[1]
    assert "training_args.bin" not in files[0]
    answers = [
        [turn.text for trace in traces for turn in trace.turns]
        for traces in (
            parse_answers(one, tmp_path),
            load_traces(two / "samples" / "step-0.jsonl"),
        )
    ]
    assert answers[0] == answers[1]


# --- module groups ---


def family(**parts: list[str]) -> torch.nn.Module:
    """Return a model body with modules of these names."""

    def module(children: list[str]) -> torch.nn.Module:
        made = torch.nn.Module()
        made.weight = torch.nn.Parameter(torch.zeros(1))
        for name in children:
            setattr(made, name, module([]))
        return made

    model = torch.nn.Module()
    model.model = torch.nn.Module()
    for name, children in parts.items():
        setattr(model.model, name, module(children))
    return model


@pytest.mark.parametrize(
    ("parts", "projectors"),
    [
        ({"visual": ["merger"], "language_model": []}, 1),
        ({"visual": ["merger", "deepstack_merger_list"], "language_model": []}, 2),
        ({"vision_tower": [], "multi_modal_projector": [], "language_model": []}, 1),
        ({"vision_model": [], "connector": [], "text_model": []}, 1),
    ],
    ids=["Qwen2.5-VL", "Qwen3-VL", "LLaVA", "Idefics 3"],
)
def test_freezing_vision_trains_only_the_language_model(parts, projectors):
    model = family(**parts)
    groups = module_groups(model)
    assert len(groups.projector) == projectors
    groups.freeze_vision()
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    (language,) = [name for name in parts if name in ("language_model", "text_model")]
    assert trained == [f"model.{language}.weight"]


def test_the_bundled_model_has_its_groups():
    run = SimpleNamespace(train_vision=False, lora_rank=0)
    model = load_weights(str(TINY), run, bf16=False)
    groups = module_groups(model)
    assert groups.vision is model.model.visual
    assert groups.language is model.model.language_model
    assert not any(weight.requires_grad for weight in groups.vision.parameters())
    assert all(weight.requires_grad for weight in groups.language.parameters())


def test_the_error_of_a_family_with_unknown_modules_lists_its_modules():
    with pytest.raises(ModelError, match="with eyes, language_model"):
        module_groups(family(eyes=[], language_model=[]))
