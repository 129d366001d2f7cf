"""Options under `[trl]`: each has an effect and is valid, or is an error before anything is loaded."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from cli_fixture import assert_refused
from pixel_reasoner.errors import UsageError
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train import trl_limits
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.trl_config import trl_config


def sft(**trl: object) -> SftRun:
    return SftRun(traces=("a",), out="out", trl=trl)


def rl(**trl: object) -> RlRun:
    sizes = {"questions_per_sync": 8, "group_size": 4, "minibatch": 16, "rollouts_at_once": 8}
    return RlRun(out="out", pixelworld=WorldMix(count=8), trl=trl, **sizes)


@pytest.mark.parametrize(
    ("make", "trl", "message"),
    [
        (sft, {"max_length": 4096}, "never truncated"),
        (sft, {"resume_from_checkpoint": "x"}, "reproduces the same numbers"),
        (sft, {"save_only_model": True}, "the same numbers"),
        (sft, {"padding_free": True}, "this project"),
        (sft, {"eos_token": "x"}, "folder of the model"),
        (sft, {"trust_remote_code": True}, "never executes code"),
        (sft, {"learning_rate": "high"}, "learning_rate under .trl. as float.*'high'"),
        (sft, {"learning_rate": float("nan")}, "finite learning_rate"),
        (sft, {"learning_rate": -1e-5}, "0 or more"),
        (sft, {"per_device_train_batch_size": 0}, "1 or more"),
        (sft, {"per_device_train_batch_size": True}, "as int"),
        (rl, {"temperature": 0}, "temperature above 0.*the same"),
        (rl, {"temperature": 0.0}, "temperature above 0"),
        (rl, {"top_p": 1.5}, "1 or less"),
        (rl, {"per_device_train_batch_size": 0}, "1 or more"),
        (rl, {"per_device_train_batch_size": "4"}, "as int"),
        (rl, {"num_iterations": 0}, "1 or more"),
        (rl, {"max_completion_length": 0}, "1 or more"),
        (rl, {"log_completions": True}, "sample_every"),
        (rl, {"eval_on_start": True}, "ask_every"),
        (rl, {"use_vllm": True}, "placeholders of pictures.*add .vllm."),
        (rl, {"vllm_mode": "server"}, "vllm_mode.*add .vllm."),
        (rl, {"vllm_importance_sampling_clip_max": 2.0}, "needs .vllm."),
        (rl, {"sapo_temperature_pos": 2.0}, 'loss_type = "sapo"'),
        (rl, {"entropy_target": 0.1}, "use_adaptive_entropy = true"),
        (rl, {"generation_kwargs": {"temperature": 0.5}}, "temperature under"),
        (rl, {"generation_kwargs": {"max_new_tokens": 5}}, "max_new_tokens at the top"),
    ],
)
def test_an_option_without_effect_or_with_a_later_error_is_rejected_at_load(make, trl, message):
    with pytest.raises(UsageError, match=message):
        make(**trl)


@pytest.mark.parametrize(
    ("make", "trl", "message"),
    [
        (sft, {"bf16": "yes"}, "bf16 = 'yes'"),
        (sft, {"warmup_ratio": 0.1}, "did you mean"),
        (sft, {"max_steps": 2.5}, "max_steps = 2.5"),
        (sft, {"max_steps": "10"}, "max_steps = '10'"),
        (rl, {"lr_scheduler_kwargs": 5}, "lr_scheduler_kwargs = 5"),
        (rl, {"scale_rewards": 3}, "scale_rewards = 3"),
        (rl, {"lr_scheduler_type": "cosin"}, "GRPOConfig"),
        (rl, {"loss_type": "gpro"}, "grpo"),
        (rl, {"save_steps": 3}, "multiple of the 2 steps"),
        (rl, {"num_iterations": 2, "save_steps": 2}, "multiple of the 4 steps"),
    ],
)
def test_values_of_another_type_are_refused_before_anything_is_loaded(make, trl, message):
    with pytest.raises(UsageError, match=message):
        trl_config(make(**trl))


@pytest.mark.parametrize("num_iterations", [1, 2, 3])
def test_checkpoints_are_at_the_end_of_a_sync(num_iterations):
    args = trl_config(rl(num_iterations=num_iterations))
    assert args.save_steps % (2 * num_iterations) == 0
    assert 40 < args.save_steps <= 50


def test_the_defaults_of_trl_have_the_expected_types():
    from trl import GRPOConfig, SFTConfig

    from pixel_reasoner.train.trl_config import _check_types

    for kind in (SFTConfig, GRPOConfig):
        defaults = {
            field.name: field.default
            for field in dataclasses.fields(kind)
            if isinstance(field.default, (str, int, float, bool))
        }
        _check_types(defaults, kind)


def test_every_name_in_the_lists_is_an_option_of_trl():
    from trl import GRPOConfig, SFTConfig

    fields = {
        kind: {one.name for one in dataclasses.fields(kind)} for kind in (SFTConfig, GRPOConfig)
    }
    for kind, lists in ((SFTConfig, trl_limits._SFT), (GRPOConfig, trl_limits._RL)):
        for names in (*trl_limits._SHARED.values(), *lists.values()):
            assert set(names) <= fields[kind]
    either = fields[SFTConfig] | fields[GRPOConfig]
    assert {*trl_limits._MINIMA, *trl_limits._POSITIVE, *trl_limits._AT_MOST_1} <= either
    assert all(set(names) <= either for names in trl_limits._REQUIRED_OPTIONS)


def test_a_wrong_value_in_a_file_is_one_error_and_nothing_is_written(run, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('traces = "x"\nout = "out"\n[trl]\nlearning_rate = "high"\n')
    assert_refused(run("train", "sft", path), "learning_rate", "'high'")
    path.write_text('questions = "x"\nout = "out"\n[trl]\nper_device_train_batch_size = 0\n')
    assert_refused(run("train", "rl", path, "--plan"), "per_device_train_batch_size")
    assert [one.name for one in tmp_path.iterdir()] == ["run.toml"]


def test_the_error_of_a_plan_without_torch_states_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "run.toml"
    path.write_text('questions = "x"\nout = "out"\nmodel = "tiny"\n')
    assert_refused(run("train", "rl", path, "--plan", "--gpus", 8), "torch", ".[local]")


def test_a_pad_token_outside_the_vocabulary_is_an_error():
    from types import SimpleNamespace

    from pixel_reasoner.train.sft import _check_pad_token

    tokenizer = SimpleNamespace(get_vocab=lambda: {"<pad>": 0})
    _check_pad_token("<pad>", SimpleNamespace(tokenizer=tokenizer))
    with pytest.raises(UsageError, match="vocabulary"):
        _check_pad_token("[PAD]", SimpleNamespace(tokenizer=tokenizer))


def test_a_tokenizer_without_a_token_for_padding_pads_with_the_end_token(tmp_path):
    import json
    import shutil

    from pixel_reasoner.models.folder import BUNDLED_MODELS
    from pixel_reasoner.models.local_weights import load_processor

    folder = Path(shutil.copytree(BUNDLED_MODELS["tiny"], tmp_path / "model"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            values = json.loads((folder / name).read_text())
            values.pop("pad_token", None)
            (folder / name).write_text(json.dumps(values))
    tokenizer = load_processor(str(folder)).tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token
