"""Agent loop of verl: with its base classes where verl is installed (make adapters), otherwise with doubles of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="the tokens of a rollout need torch and transformers")

from episode_fixture import asked, contents, pixels, reward_of, texts_of, world_question
from framework_doubles import agent_loop
from pixel_reasoner.data.verl_rows import export_verl
from pixel_reasoner.errors import UsageError
from pixel_reasoner.integrations import verl_loop
from pixel_reasoner.integrations.episode import Episode
from pixel_reasoner.integrations.verl_loop import PixelReasonerLoop
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.train.samples import ConversationTokens, PromptEncoder

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
GUESS = [r"\boxed{nothing}"]


class Config(dict):
    """Nested mapping with attributes, as OmegaConf's."""

    def __getattr__(self, name):
        value = self[name]
        return Config(value) if isinstance(value, dict) else value


class Server:
    """verl's client of the inference servers: returns the tokens of scripted turns, one script per rollout."""

    def __init__(self, processor, scripts: list[list[str]], end: bool = True) -> None:
        self.tokenizer, self.scripts, self.end = processor.tokenizer, list(scripts), end
        self.requests: list[dict] = []
        self.turns: dict[str, list[str]] = {}

    async def generate(self, request_id, *, prompt_ids, sampling_params, image_data=None, **more):
        self.requests.append(
            {"id": request_id, "ids": prompt_ids, "images": image_data, **sampling_params}
        )
        await asyncio.sleep(0)
        if request_id not in self.turns:
            self.turns[request_id] = list(self.scripts.pop(0))
        ids = self.tokenizer(self.turns[request_id].pop(0), add_special_tokens=False)["input_ids"]
        ids = [*ids, self.tokenizer.eos_token_id] if self.end else ids
        ids = ids[: sampling_params["max_tokens"]]
        steps = {"min_global_steps": len(self.requests), "max_global_steps": len(self.requests)}
        return SimpleNamespace(token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields=steps)


@pytest.fixture(scope="module")
def processor():
    return load_processor(str(BUNDLED_MODELS["tiny"]))


@pytest.fixture
def question(tmp_path):
    return world_question(tmp_path)


def generate(
    processor,
    question,
    scripts,
    *,
    row=None,
    end=True,
    lengths=(600, 900),
    server_type=Server,
    **options,
):
    """Return the outputs of a group, and the server. Any of its rollouts may get the first script."""
    server = server_type(processor, scripts, end)
    rollout = {"n": len(scripts), "val_kwargs": {"n": 1}}
    rollout |= {"prompt_length": lengths[0], "response_length": lengths[1]}
    model = {"path": str(BUNDLED_MODELS["tiny"])}
    config = Config(actor_rollout_ref={"rollout": rollout, "model": model})

    async def run():
        loops = [
            PixelReasonerLoop(
                trainer_config=SimpleNamespace(config=config),
                server_manager=server,
                tokenizer=processor.tokenizer,
                processor=processor,
                dataset_cls=None,
                data_config=SimpleNamespace(config=Config()),
                hf_model_type="qwen2_5_vl",
                tools=SimpleNamespace(tools=[]),
                **options,
            )
            for _ in scripts
        ]
        extra = {"question": question.to_line()}
        rows = [{"uid": "a", "session_id": n, "extra_info": extra} for n in range(len(loops))]
        return await asyncio.gather(
            *(
                one.run({"temperature": 1.0}, **(one_row if row is None else row))
                for one, one_row in zip(loops, rows, strict=True)
            )
        )

    return asyncio.run(run()), server


def test_a_rollout_has_trace_pictures_tokens_and_reward_of_our_own(
    processor, question, monkeypatch
):
    kept = []

    class Kept(Episode):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            kept.append(self)

    monkeypatch.setattr(verl_loop, "Episode", Kept)
    texts = texts_of(question)
    (output,), server = generate(processor, question, [texts])
    ours = asked(question, texts)
    assert contents(kept[0].trace()) == contents(ours)
    assert [one.tobytes() for one in output.multi_modal_data["images"]] == pixels(ours)
    assert output.reward_score == pytest.approx(reward_of(ours)) == 0.95
    assert output.num_turns == 8
    # The sequence is the one on which `train rl` trains.
    tokens = ConversationTokens(PromptEncoder(processor, [processor.tokenizer.eos_token_id], {}))
    episode = Episode(question)
    for text in texts:
        tokens.accept(tokens.next_prompt(episode.messages()))
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids.append(processor.tokenizer.eos_token_id)
        tokens.add_turn(ids, [-0.5] * len(ids))
        episode.step(text)
    (sequence,) = tokens.sequences
    assert output.prompt_ids == sequence.prompt_ids
    assert output.response_ids == sequence.completion_ids
    assert output.response_mask == [int(one) for one in sequence.loss_mask]
    assert output.response_logprobs == sequence.logprobs
    trained = [t for t, m in zip(output.response_ids, output.response_mask, strict=True) if m]
    assert processor.tokenizer.decode(trained, skip_special_tokens=True) == "".join(texts)
    assert server.requests[-1]["ids"] == output.prompt_ids + output.response_ids[: -len(ids)]
    assert len(server.requests[-1]["images"]) == 3
    assert (output.extra_fields["min_global_steps"], output.extra_fields["max_global_steps"]) == (
        1,
        4,
    )


def test_pictures_and_their_placeholders_are_cut_off_together(processor, question):
    """A result that does not fit ends the rollout before its picture: verl pairs placeholders with pictures."""
    texts = texts_of(question)
    (whole,), _ = generate(processor, question, [texts])
    placeholder = processor.image_token_id
    patches = whole.prompt_ids.count(placeholder)
    seen = set()
    for limit in range(60, len(whole.response_ids) + 60, 23):
        (output,), server = generate(processor, question, [texts], lengths=(600, limit))
        ids = output.prompt_ids + output.response_ids
        assert len(output.response_ids) <= limit
        assert (
            len(output.response_mask) == len(output.response_logprobs) == len(output.response_ids)
        )
        in_results = sum(
            token == placeholder
            for token, trained in zip(output.response_ids, output.response_mask, strict=True)
            if not trained
        )
        assert ids.count(placeholder) == patches + in_results
        merge = processor.image_processor.merge_size**2
        expected = sum(
            processor.image_processor.get_number_of_image_patches(one.height, one.width, {})
            // merge
            for one in output.multi_modal_data["images"]
        )
        assert ids.count(placeholder) == expected
        assert all(one["max_tokens"] <= limit for one in server.requests)
        seen.add(len(output.multi_modal_data["images"]))
    assert seen == {1, 2, 3}


def test_rewards_of_a_group_contain_curiosity_and_are_those_of_train_rl(processor, question):
    looks = texts_of(question)
    outputs, _ = generate(
        processor, question, [GUESS, looks, GUESS, GUESS], reward={"H": 0.5, "alpha": 1.0}
    )
    outputs.sort(key=lambda one: one.num_turns)
    assert [one.reward_score for one in outputs] == pytest.approx([0, 0, 0, 0.95 + 0.25])
    infos = [one.extra_fields["reward_extra_info"] for one in outputs]
    assert {tuple(one) for one in infos} == {
        ("correctness", "curiosity", "cost", "answered", "executed", "rejected", "turns")
    }
    assert infos[-1]["curiosity"] == pytest.approx(0.25)
    assert verl_loop._GROUPS == {}


def test_a_failed_rollout_does_not_hold_up_its_group(processor, question):
    class Failing(Server):
        async def generate(self, *arguments, **more):
            if self.requests:
                raise RuntimeError("the server is gone")
            return await super().generate(*arguments, **more)

    with pytest.raises(RuntimeError, match="the server is gone"):
        generate(processor, question, [GUESS, GUESS], server_type=Failing)
    assert verl_loop._GROUPS == {}


def test_truncated_rollouts_are_masked_unless_the_file_says_otherwise(processor, question):
    for mask_truncated in (True, False):
        (output,), _ = generate(
            processor, question, [GUESS], end=False, mask_truncated=mask_truncated
        )
        assert any(output.response_mask) is not mask_truncated
        assert output.reward_score == 0


def test_the_deprecated_trainer_a_long_prompt_and_a_template_that_rewrites_are_errors(
    processor, question, monkeypatch
):
    with pytest.raises(UsageError, match="use_v1=True"):
        generate(processor, question, [GUESS], row={"extra_info": {}})
    with pytest.raises(UsageError, match="prompts of up to 9 tokens"):
        generate(processor, question, [GUESS], lengths=(9, 100))
    monkeypatch.setattr(ConversationTokens, "_is_extended_by", lambda *arguments: False)
    with pytest.raises(UsageError, match="a chat template that keeps earlier turns"):
        generate(processor, question, [texts_of(question)])


def test_the_loop_is_registered_under_the_name_of_exported_rows():
    target = agent_loop._agent_loop_registry["pixel_reasoner"]["_target_"]
    assert target == f"{PixelReasonerLoop.__module__}.PixelReasonerLoop"


# --- with verl ---

EXAMPLE = Path(__file__).parents[1] / "examples" / "verl"
needs_verl = pytest.mark.skipif(
    not hasattr(agent_loop, "AgentLoopWorker"), reason="verl is not installed: make adapters"
)


@needs_verl
def test_pictures_that_verl_prepares_for_training_match_the_placeholders(processor, question):
    import torch

    (output,), _ = generate(processor, question, [texts_of(question)])
    worker = SimpleNamespace(processor=processor, tokenizer=processor.tokenizer)
    worker._get_mm_processor_kwargs = lambda audios: {}
    ids = torch.tensor([output.prompt_ids + output.response_ids])
    features = agent_loop.AgentLoopWorker._compute_multi_modal_inputs(worker, output, ids)
    grid = features["image_grid_thw"]
    assert len(grid) == 3
    num_tokens = int(grid.prod(dim=1).sum()) // processor.image_processor.merge_size**2
    assert num_tokens == int((ids == processor.image_token_id).sum())
    fields = output.as_dict()
    assert fields["rm_scores"].sum().item() == pytest.approx(0.95)
    assert fields["rm_scores"][-1] == fields["rm_scores"].sum()
    assert fields["response_mask"].tolist() == output.response_mask


@needs_verl
def test_the_examples_file_makes_the_loop_and_its_config_has_only_keys_of_verl(
    processor, question, monkeypatch
):
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    with initialize_config_dir(str(EXAMPLE), version_base=None):
        config = compose("pixel_reasoner")  # an unknown key is an error of hydra
    assert config.trainer.use_v1
    assert config.actor_rollout_ref.rollout.n == 8
    path = config.actor_rollout_ref.rollout.agent.agent_loop_config_path
    (entry,) = OmegaConf.load(EXAMPLE.parents[1] / path)
    assert entry.name == config.actor_rollout_ref.rollout.agent.default_agent_loop

    async def make() -> PixelReasonerLoop:
        return instantiate(
            config=entry,
            trainer_config=agent_loop.DictConfigWrap(config),
            server_manager=None,
            tokenizer=processor.tokenizer,
            processor=processor,
            hf_model_type="qwen2_5_vl",
            dataset_cls=None,
            data_config=agent_loop.DictConfigWrap(config.data),
            tools=agent_loop.ToolListWrap([]),
        )

    made = asyncio.run(make())
    assert type(made) is PixelReasonerLoop
    assert (made.reward.alpha, made.rollout.limits.max_turns) == (0.5, 6)
    assert made.model == "Qwen/Qwen2.5-VL-7B-Instruct"


@needs_verl
def test_verls_data_set_reads_exported_rows(processor, question, tmp_path):
    from omegaconf import OmegaConf
    from verl.utils.dataset.rl_dataset import RLHFDataset

    (tmp_path / "questions.jsonl").write_text(question.to_line() + "\n")
    assert export_verl(tmp_path, tmp_path / "out") == 1
    options = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path)})
    rows = RLHFDataset(
        str(tmp_path / "out" / "rows.parquet"), processor.tokenizer, options, processor
    )
    assert len(rows) == 1
    row = rows[0]
    assert row["agent_name"] == "pixel_reasoner"
    (message,) = row["raw_prompt"]
    assert message["content"][0] == {"type": "image", "image": question.media[0].path}
    assert row["extra_info"]["question"] == question.to_line()


@needs_verl
def test_verls_worker_stores_a_group_with_the_rewards_of_train_rl(processor, question, monkeypatch):
    """Run `_run_prompt` of the worker of verl's trainer, which starts all rollouts of a question in its process."""
    import torch
    from omegaconf import OmegaConf
    from verl.trainer.ppo.v1 import agent_loop_tq

    looks = texts_of(question)
    server = Server(processor, [GUESS, looks, GUESS, GUESS])
    lengths = {"prompt_length": 600, "response_length": 900}
    sizes = {"n": 4, "val_kwargs": {"n": 1}, **lengths}
    model = {"path": str(BUNDLED_MODELS["tiny"])}
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": sizes, "model": model}, "data": {}})
    entry = {"_target_": f"{PixelReasonerLoop.__module__}.PixelReasonerLoop"}
    entry |= {"max_turns": 4, "reward": {"H": 0.5, "alpha": 1.0}}
    monkeypatch.setitem(agent_loop._agent_loop_registry, "pixel_reasoner", entry)
    stored: dict[str, dict] = {}
    status: list[str] = []

    async def put(key, partition_id, tag):
        status.append(tag["status"])

    async def put_batch(keys, fields, tags, partition_id):
        stored.update(zip(keys, fields, strict=True))

    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_put", put)
    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_batch_put", put_batch)
    monkeypatch.setattr(agent_loop_tq, "list_of_dict_to_tensordict", lambda rows: rows)
    kind = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    worker = object.__new__(kind)
    vars(worker).update(
        config=config,
        rollout_config=config.actor_rollout_ref.rollout,
        llm_client=server,
        tokenizer=processor.tokenizer,
        processor=processor,
        hf_model_type="qwen2_5_vl",
        dataset_cls=None,
        tools=[],
        mm_processor_kwargs={},
        distillation_enabled=False,
        reward_loop_worker_handles=None,
    )
    monkeypatch.setattr(kind, "_compute_position_ids", lambda *arguments: torch.zeros(1, 1))
    trajectory = {"step": 1, "sample_index": 0, "rollout_n": 0, "validate": False}
    prompt = {"uid": "u", "agent_name": "pixel_reasoner", "global_steps": 1, "raw_prompt": []}
    prompt["extra_info"] = {"question": question.to_line()}
    asyncio.run(worker._run_prompt(prompt, {"temperature": 1.0}, trajectory))
    assert status == ["running", "finished"]
    assert set(stored) == {f"u_{n}_0" for n in range(4)}
    rewards = sorted(row["rm_scores"].sum().item() for row in stored.values())
    assert rewards == pytest.approx([0, 0, 0, 0.95 + 0.25])
    assert max(len(row["multi_modal_inputs"]["image_grid_thw"]) for row in stored.values()) == 3
