"""RL training: early errors, rollouts equal to those of `ask`, groups across processes, losses equal to those of TRL."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import full_disk
from pixel_reasoner.data.check import check_traces
from pixel_reasoner.data.encode import encode
from pixel_reasoner.data.formats import export_message_list, export_trl
from pixel_reasoner.dialects import DIALECTS
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.folder import FolderSettings, folder_settings
from pixel_reasoner.models.local import LocalModel, load_processor
from pixel_reasoner.reports.training_log import read_rewards
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import (
    RolloutConfig,
    RolloutLimits,
    RunSettings,
    SamplingParams,
)
from pixel_reasoner.schema.trace import CallErrorKind, StopReason, Trace, load_traces
from pixel_reasoner.sources.pixelworld import WorldMix, world_questions
from pixel_reasoner.train.batch_sizes import batch_sizes
from pixel_reasoner.train.callbacks import LOG, LogCallback
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.plan.estimate import plan
from pixel_reasoner.train.replay_buffer import (
    ReplayBuffer,
    selective_replay,
    split_micro_batches,
)
from pixel_reasoner.train.reward_functions import load_reward
from pixel_reasoner.train.rewards_table import is_left_out, reward_terms
from pixel_reasoner.train.rl import (
    load_questions,
    question_rows,
    rollout_config,
    train_rl,
)
from pixel_reasoner.train.rollouts.generator import GeneratedRollout, RolloutGenerator, TokenLimits
from pixel_reasoner.train.samples import PromptEncoder, RolloutSample, TokenSequence, TrlRow
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.train.vllm.options import VllmOptions
from pixel_reasoner.train.weights import last_checkpoint, load_weights
from pixel_reasoner.world import render, scenes
from rl_fixture import (
    BROKEN,
    TINY,
    ZOOM,
    ScriptedStockTrainer,
    ScriptedTurns,
    run_of,
    trainer_of,
)
from stock import (
    StockTrainer,
    TrlToolEnv,
    dialect_template,
    first_messages,
    stock_rows,
    turn_parser,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

SETTINGS = folder_settings(Path(TINY))


@pytest.fixture(scope="module")
def processor():
    return load_processor(TINY)


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    folder = tmp_path_factory.mktemp("world")
    mix = WorldMix(families=("attribute", "video"), count=6)
    return list(world_questions(mix, folder))


def write_run(folder: Path, text: str = "", trl: str = "", reward: str = "") -> Path:
    path = folder / "run.toml"
    sizes = "" if "minibatch" in text else "questions_per_sync = 4\ngroup_size = 4\nminibatch = 8\n"
    wanted = "" if "questions" in text.replace("questions_per", "") else "[pixelworld]\ncount = 4\n"
    path.write_text(
        f'out = "out"\nrollouts_at_once = 16\n{sizes}{text}\n{wanted}[trl]\n{trl}\n[reward]\n{reward}\n'
    )
    return path


# --- invalid runs ---


@pytest.mark.parametrize(
    ("text", "trl", "reward", "message"),
    [
        ("group_sise = 4", "", "", "did you mean group_size"),
        ("group_size = 1\nminibatch = 8", "", "", "difference within a group"),
        ("questions_per_sync = 4\ngroup_size = 4\nminibatch = 7", "", "", "take 4 or 8"),
        ("rollouts_at_once = 6", "", "", "TOML"),
        ("max_turns = 1", "", "", "answers in the turn after"),
        ("replay_exponent = -1.0", "", "", "0 or more"),
        ("lora_alpha = 8", "", "", "set lora_rank"),
        ("ask_every = 5", "", "", "set ask_count"),
        ("solved_weight = nan", "", "", "solved_weight"),
        ("", "num_generations = 8", "", "set group_size"),
        ("", 'output_dir = "x"', "", "set out at the top"),
        ("", "", "alpha = -1.0", "alpha of 0 or more"),
        ("", "", "H = 1.5", "H from 0 to 1"),
        ("", "", "H = true", "H as float"),
        ("", "", 'variant = "papier"', "paper or released_code"),
        ("", "", "theta = 1.0", "keys of"),
    ],
)
def test_an_invalid_run_fails_before_anything_is_loaded(tmp_path, text, trl, reward, message):
    with pytest.raises((UsageError, InputError), match=message):
        RlRun.read(write_run(tmp_path, text, trl, reward))


def test_a_run_without_questions_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('out = "out"\n')
    with pytest.raises(UsageError, match=r"questions or \[pixelworld\]"):
        RlRun.read(path)


@pytest.mark.parametrize(
    ("trl", "message"),
    [
        ("lerning_rate = 1e-5", "did you mean learning_rate"),
        ("save_steps = 3", "multiple of the 2 steps"),
        ("per_device_train_batch_size = 3", "divides"),
        ('loss_type = "grop"', "loss_type grpo"),
        ('optim = "sdg"', "GRPOConfig"),
    ],
)
def test_options_of_trl_are_checked(tmp_path, trl, message):
    with pytest.raises(UsageError, match=message):
        trl_config(RlRun.read(write_run(tmp_path, trl=trl)))


def test_too_few_questions_are_counted(tmp_path):
    rows = [
        {"id": "1", "text": "?", "media": [], "answer": ["4"]},
        {"id": "2", "text": "?", "media": []},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RlRun.read(write_run(tmp_path, 'questions = "q.jsonl"'))
    with pytest.raises(InputError, match=r"got 1 \(dropped: 1 no_answer\)"):
        load_questions(run)
    assert "no_answer" in (tmp_path / "out" / "dropped.jsonl").read_text()


@pytest.mark.parametrize("name", ["no_such_module:f", "json:no_such_function", "gone.py:f", "f"])
def test_the_error_of_a_missing_reward_function_names_it(name):
    with pytest.raises(UsageError, match="reward functions as"):
        load_reward(name)


# --- arithmetic ---


def test_batch_sizes_equal_those_of_the_paper_on_its_cluster():
    run = RlRun(out="out", questions=("q",), trl={"per_device_train_batch_size": 2})
    sums = batch_sizes(run, processes=32)
    assert (sums.rollouts_per_sync, sums.minibatches_per_sync) == (4096, 16)
    assert (sums.micro_batch, sums.accumulation, sums.rollouts_per_process) == (2, 4, 128)


def test_a_plan_loads_no_weights_and_rejects_invalid_sizes():
    run = RlRun(
        out="out",
        questions=("q",),
        model="Qwen/Qwen2.5-VL-7B-Instruct",
        rollouts_at_once=16,
        trl={"per_device_train_batch_size": 1},
        vllm=VllmOptions(url=("http://127.0.0.1:8000",), colocated_memory=0.3),
    )
    made = plan(run, gpus=32, gpu_gib=80)
    assert made.states_bytes == pytest.approx(8.29e9 * 16 / 32)
    assert any("gradient steps per sync: 16" in line for line in made.lines(run, 80))
    small = dataclasses.replace(run.vllm, colocated_memory=0.05)
    with pytest.raises(UsageError, match="for the weights and one rollout"):
        plan(dataclasses.replace(run, vllm=small), gpus=32, gpu_gib=24)
    with pytest.raises(UsageError, match="fits into 80 GiB"):
        plan(run, gpus=1, gpu_gib=80)
    with pytest.raises(UsageError, match="share evenly"):
        plan(run, gpus=3, gpu_gib=80)


def test_the_shape_of_a_folder_is_counted_without_its_weights(tmp_path):
    from safetensors import safe_open

    from pixel_reasoner.train.plan.estimate import load_shape

    (tmp_path / "config.json").write_text((Path(TINY) / "config.json").read_text())
    with safe_open(Path(TINY) / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert load_shape(str(tmp_path)).parameters == pytest.approx(stored, rel=0.01)


# --- rollouts ---


class Turns(ScriptedTurns):
    """Turn source of one rollout."""

    def __init__(self, tokenizer, texts: list[str], *, ended: bool = True) -> None:
        super().__init__(tokenizer)
        self.texts, self.ended = texts, ended

    def clear(self) -> None:
        self.begin([self.texts])

    def generate(self, prompt_ids, images=None):
        self.prompt_ids, self.images = prompt_ids, images
        self._waiting = [0]
        is_last = self._turn + 1 == len(self.texts)
        ((ids,), _) = super().generate(prompt_ids)
        ids = ids if self.ended or not is_last else ids[:-1]
        return [ids], [[-0.5] * len(ids)]


def generated(
    processor,
    question: Question,
    texts: list[str],
    *,
    ended: bool = True,
    max_completion: int = 10_000,
    **config,
) -> GeneratedRollout:
    """Return a rollout in training with these generated turns."""
    end = processor.tokenizer.eos_token_id
    generator = RolloutGenerator(
        Turns(processor.tokenizer, texts, ended=ended),
        PromptEncoder(processor, [end], {}),
        SETTINGS,
        RolloutConfig(**config),
        MediaCache(),
        TokenLimits(max_completion, 32_768),
    )
    (one,) = generator.run([question], RunSettings(dialect="compact", budgets=SETTINGS.budgets))
    return one


def asked(question: Question, turns: list[str]) -> Trace:
    """Return a rollout of `ask` with the same turns."""
    rollout = Rollout(question, SETTINGS, RolloutConfig())
    for text in turns:
        rollout.take(Completion(text=text), 0.0)
    return rollout.trace(RunSettings(dialect="compact", budgets=SETTINGS.budgets))


SCRIPTS = [
    [r"\boxed{R}"],
    [ZOOM.format(0.1), r"\boxed{R}"],
    [BROKEN, ZOOM.format(0.2), r"\boxed{R}"],
    [ZOOM.format(0.95), r"\boxed{R}"],
    ["I cannot tell."],
]


@pytest.mark.parametrize("turns", SCRIPTS)
def test_a_rollout_in_training_equals_a_rollout_of_ask(questions, processor, turns):
    one, other = generated(processor, questions[0], turns).trace, asked(questions[0], turns)
    skipped = {"seconds", "turns"}
    assert one.model_dump(exclude=skipped) == other.model_dump(exclude=skipped)
    for mine, yours in zip(one.turns, other.turns, strict=True):
        assert (mine.text, mine.calls, mine.observations) == (
            yours.text,
            yours.calls,
            yours.observations,
        )


@pytest.mark.parametrize("turns", SCRIPTS)
def test_a_rollout_is_one_sequence_that_trains_each_turn_once(questions, processor, turns):
    one = generated(processor, questions[0], turns)
    (sequence,) = one.sequences
    encoded = encode(one.trace, processor)
    mask = [False] * len(sequence.prompt_ids) + sequence.loss_mask
    assert sequence.ids == encoded.token_ids[: len(sequence.ids)]
    assert mask == encoded.trained[: len(mask)]
    assert not any(encoded.trained[len(mask) :])
    assert sequence.num_pictures == len(encoded.pictures)


@pytest.mark.parametrize("turns", SCRIPTS)
def test_traces_contain_the_generated_ids_and_logprobs(questions, processor, turns):
    one = generated(processor, questions[0], turns)
    (sequence,) = one.sequences
    ids = [token for turn in one.trace.turns for token in turn.token_ids]
    pairs = zip(sequence.completion_ids, sequence.loss_mask, strict=True)
    assert ids == [token for token, is_trained in pairs if is_trained]
    assert all(set(turn.logprobs) == {-0.5} for turn in one.trace.turns)
    assert [len(turn.logprobs) for turn in one.trace.turns] == [
        len(turn.token_ids) for turn in one.trace.turns
    ]
    assert one.trace.turns[0].num_prompt_tokens == len(sequence.prompt_ids)


def test_a_malformed_call_gets_a_tool_error(questions, processor):
    trace = generated(processor, questions[0], [BROKEN, r"\boxed{R}"]).trace
    assert trace.rejected[0].error is CallErrorKind.MALFORMED_CALL


def test_a_truncated_turn_ends_a_rollout(questions, processor):
    one = generated(processor, questions[0], ["I zoom in. <tool"], ended=False)
    assert one.trace.stop is StopReason.MAX_NEW_TOKENS


def test_a_call_in_the_last_turn_is_executed_and_its_result_is_in_no_sequence(questions, processor):
    calls, limits = [ZOOM.format(0.1), ZOOM.format(0.2)], RolloutLimits(max_turns=2)
    one = generated(processor, questions[0], calls, limits=limits)
    assert one.trace.stop is StopReason.MAX_TURNS
    assert len(one.trace.executed) == 2
    assert [sequence.num_pictures for sequence in one.sequences] == [2]


def test_an_observation_that_exceeds_the_context_is_removed(questions, processor):
    texts = [ZOOM.format(0.1), r"\boxed{R}"]
    whole = generated(processor, questions[0], texts)
    num_turn = len(whole.trace.turns[0].token_ids)
    num_result = whole.sequences[0].loss_mask.count(False)
    cut = generated(processor, questions[0], texts, max_completion=num_turn + num_result - 1)
    assert (cut.trace.stop, len(cut.trace.turns)) == (StopReason.MAX_CONTEXT, 1)
    assert (len(cut.sequences[0].completion_ids), cut.sequences[0].num_pictures) == (num_turn, 1)
    full = generated(processor, questions[0], texts, max_completion=num_turn + num_result)
    assert (full.trace.stop, len(full.trace.turns)) == (StopReason.MAX_CONTEXT, 1)
    assert full.sequences[0].num_pictures == 2, "the result is there, and no token after it"


@pytest.mark.parametrize("family", ["attribute", "video"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_first_prompt_of_trl_equals_that_of_ask(tmp_path, dialect, family):
    question = with_media_root(
        next(iter(render(scenes(family, "train", 0, 1), tmp_path))), tmp_path
    )
    settings = FolderSettings(dialect=dialect, budgets=SETTINGS.budgets)
    begin = first_messages(settings, RolloutConfig(), question.media)
    environment = TrlToolEnv(settings, RolloutConfig(), MediaCache())
    parts = environment.reset(question=question.model_dump_json(), prompt=begin)
    plain = Rollout(question, settings, RolloutConfig()).messages()
    assert [*begin[:-1], {**begin[-1], "content": parts}] == plain


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (ZOOM.format(0.1), True),
        (BROKEN, True),
        (ZOOM.format(0.1) + " and so on", True),
        (r"It is \boxed{R}", False),
        ("I cannot tell.", False),
    ],
)
def test_the_baseline_executes_every_turn_that_contains_a_call(processor, text, calls):
    tokenizer = processor.tokenizer
    parse = turn_parser(tokenizer, "compact", [tokenizer.eos_token_id])
    ids = tokenizer.encode(text, add_special_tokens=False)
    message = parse([*ids, tokenizer.eos_token_id], prefix=[1], tools=[])
    assert ("tool_calls" in message) == calls
    if calls:
        assert message["tool_calls"][0]["function"]["arguments"] == {"turn": text}
    else:
        assert message["content"] == text
    assert "tool_calls" not in parse(ids)  # cut off
    assert parse([])["content"] == ""


def test_the_template_of_the_baseline_renders_the_prompts_of_ask(questions, processor):
    plain = Rollout(questions[0], SETTINGS, RolloutConfig())
    plain.take(Completion(text=ZOOM.format(0.1)), 0.0)
    messages = plain.messages()
    call = {
        "type": "function",
        "function": {"name": "operate", "arguments": {"turn": ZOOM.format(0.1)}},
    }
    tools = [
        *messages[:2],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "operate", "content": messages[3]["content"]},
    ]

    def rendered(conversation, template):
        return processor.apply_chat_template(
            conversation, chat_template=template, tokenize=False, add_generation_prompt=True
        )

    expected = rendered(messages, processor.chat_template)
    assert rendered(messages, dialect_template(processor.chat_template)) == expected
    assert rendered(tools, dialect_template(processor.chat_template)) == expected


def test_the_rollouts_of_a_question_open_its_media_once(questions, monkeypatch):
    opened: list[Path] = []
    from pixel_reasoner.media import decoder

    real = decoder.open_image
    monkeypatch.setattr(
        decoder, "open_image", lambda *given: (opened.append(given[0]), real(*given))[1]
    )
    contexts = MediaCache(max_entries=1)
    for question in [questions[0]] * 4 + [questions[1], questions[0]]:
        contexts.open(question, SETTINGS.budgets).view(1)
    assert len(opened) == 3  # the third decode: the cache keeps one


# --- several sequences ---

THOUGHT = re.compile(r"<think>.*?</think>\n?", re.DOTALL)
THINKS = [
    f"<think>The picture is small.</think>\n{ZOOM.format(0.1)}",
    f"<think>Closer.</think>\n{ZOOM.format(0.2)}",
    "<think>It is an R.</think>\n\\boxed{R}",
]


@pytest.fixture
def forgetful():
    """Processor whose chat template deletes the thoughts of earlier turns."""
    processor = load_processor(TINY)
    rewrite = (
        "{%- set ns = namespace(messages=[]) -%}{%- for message in messages -%}"
        "{%- if message.role == 'assistant' and '</think>' in message.content[0].text -%}"
        "{%- set text = message.content[0].text.split('</think>')[-1].lstrip('\n') -%}"
        "{%- set ns.messages = ns.messages + "
        "[{'role': 'assistant', 'content': [{'type': 'text', 'text': text}]}] -%}"
        "{%- else -%}{%- set ns.messages = ns.messages + [message] -%}{%- endif -%}{%- endfor -%}"
        "{%- set messages = ns.messages -%}"
    )
    processor.chat_template = rewrite + processor.chat_template
    return processor


def test_a_template_that_deletes_thoughts_gives_a_sequence_per_turn(questions, forgetful):
    one = generated(forgetful, questions[0], THINKS)
    assert len(one.sequences) == 3
    decode = forgetful.tokenizer.decode
    for number, sequence in enumerate(one.sequences):
        assert sequence.loss_mask == [True] * len(sequence.completion_ids)
        assert decode(sequence.completion_ids) == decode(one.trace.turns[number].token_ids)
        assert "<think>" not in decode(sequence.prompt_ids)
        assert sequence.num_pictures == 1 + number
    trained = [ids for sequence in one.sequences for ids in sequence.completion_ids]
    assert trained == [ids for turn in one.trace.turns for ids in turn.token_ids]


def test_prompts_of_later_sequences_equal_those_of_ask(questions, forgetful):
    one = generated(forgetful, questions[0], THINKS)
    rollout = Rollout(questions[0], SETTINGS, RolloutConfig())
    encoder = PromptEncoder(forgetful, [forgetful.tokenizer.eos_token_id], {})
    for text, sequence in zip(THINKS, one.sequences, strict=True):
        messages = rollout.messages()
        pictures = [p["image"] for m in messages for p in m["content"] if p["type"] == "image"]
        assert sequence.prompt_ids == encoder.encode(encoder.render(messages), pictures)
        rollout.take(Completion(text), 0.0)


def test_a_sequence_without_generated_tokens_is_dropped(questions, forgetful):
    num_turn = len(generated(forgetful, questions[0], THINKS).trace.turns[0].token_ids)
    limit = num_turn + 120  # the second prompt fits, and its turn is truncated or does not fit
    one = generated(forgetful, questions[0], THINKS, max_completion=limit)
    assert one.trace.stop in (StopReason.MAX_CONTEXT, StopReason.MAX_NEW_TOKENS)
    assert all(sequence.completion_ids for sequence in one.sequences)
    assert sum(map(len, (s.completion_ids for s in one.sequences))) == sum(
        len(turn.token_ids) for turn in one.trace.turns
    )


def test_logprobs_of_several_sequences_equal_those_of_each_alone(tmp_path, questions, forgetful):
    """Padded rows contain all sequences. Log-probabilities are computed for each sequence with its pixels."""
    trainer = trainer_of(run_of(tmp_path, group_size=2, minibatch=6), PixelReasonerTrainer)
    one = generated(forgetful, questions[0], THINKS)
    trainer._generated = [one, generated(forgetful, questions[1], THINKS[2:])]
    both = trainer.logprobs_of_rollouts(trainer.model, trainer._generated, 2).detach()
    assert both.shape == (2, len(TrlRow.of(one.sequences).completion_ids))
    for sequence, span in zip(one.sequences, spans_of(one), strict=True):
        alone = GeneratedRollout(one.trace, [sequence], has_logprobs=True)
        trainer._generated = [alone]
        (expected,) = trainer.logprobs_of_rollouts(trainer.model, [alone], 1).detach()
        assert torch.allclose(both[0, span], expected, atol=1e-4)
        assert (expected < 0).all()


def spans_of(one: GeneratedRollout) -> list[slice]:
    from pixel_reasoner.train.samples import completion_spans

    return completion_spans(one.sequences)


# --- groups ---


def table(*rows: tuple[float, int]) -> torch.Tensor:
    """Return gathered rollouts with these values of correctness and operations."""
    return torch.tensor(
        [[correct, count, count, 0, 1, 0, 1, 1, 0, 0] for correct, count in rows],
        dtype=torch.float64,
    )


def test_each_group_is_shaped_separately():
    run = RlRun(out="out", questions=("q",), group_size=4, rollouts_at_once=8)
    lazy, eager = [(1, 1), (0, 0), (0, 0), (0, 0)], [(1, 1), (0, 1), (0, 3), (0, 0)]
    terms, weights, _ = reward_terms(table(*lazy, *eager), run)
    assert terms[:, 1].tolist() == pytest.approx([0.025, 0, 0, 0, 0, 0, 0, 0])
    assert terms[:, 2].tolist() == pytest.approx([0, 0, 0, 0, 0, 0, -0.1, 0])
    assert weights.tolist() == [1.0] * 8


def test_questions_with_uniform_correctness_can_have_a_lower_weight():
    run = RlRun(
        out="out",
        questions=("q",),
        group_size=2,
        rollouts_at_once=2,
        solved_weight=0.0,
        unsolved_weight=0.5,
    )
    _, weights, _ = reward_terms(table((1, 1), (1, 0), (0, 1), (0, 0), (1, 0), (0, 0)), run)
    assert weights.tolist() == [0, 0, 0.5, 0.5, 1, 1]


def rolled(advantage: float, *, uniform: bool = False, length: int = 1) -> RolloutSample:
    ids = torch.zeros(length)
    sequence = TokenSequence(torch.zeros(1), ids, ids.bool(), {}, 0)
    trace = Trace(question=Question(id="1", text="?", media=()), stop=StopReason.NO_ANSWER)
    return RolloutSample((sequence,), trace, {}, advantage, uniform, "1", 0)


def test_replay_samples_by_advantage_and_keeps_the_other_positions():
    rows = [
        rolled(3.0),
        rolled(-1.0),
        rolled(0.0),
        *[rolled(0.0, uniform=True) for _ in range(4000)],
    ]
    after = selective_replay(rows, 1.0, random.Random(0))
    assert after[:3] == rows[:3]
    assert not any(row.is_uniform for row in after)
    share = sum(row.advantage == 3.0 for row in after[3:]) / 4000
    assert share == pytest.approx(0.75, abs=0.03)
    even = selective_replay(rows, 0.0, random.Random(0))
    assert sum(row.advantage == 3.0 for row in even[3:]) / 4000 == pytest.approx(0.5, abs=0.03)


def test_rollouts_of_one_gradient_step_are_batched_by_length():
    samples = [rolled(1.0, length=length) for length in [5, 1, 4, 2, 9, 7, 8, 6]]
    batches = split_micro_batches(samples, count=4, accumulation=2)
    assert [[one.num_tokens - 1 for one in batch] for batch in batches] == [
        [1, 2],
        [4, 5],
        [6, 7],
        [8, 9],
    ]


def test_the_next_batch_is_built_while_this_one_is_used():
    built: list[tuple[int, str]] = []
    started = threading.Event()

    def build(samples):
        built.append((samples[0].num_tokens, threading.current_thread().name))
        if len(built) == 2:
            started.set()
        return {"length": samples[0].num_tokens}

    samples = [[rolled(1.0, length=length)] for length in (1, 2, 3)]
    buffer = ReplayBuffer(samples, build, num_iterations=2)
    assert buffer.get(0) == {"length": 2}
    assert started.wait(5), "the second batch is built before it is asked for"
    assert [buffer.get(step)["length"] for step in range(1, 6)] == [3, 4, 2, 3, 4]
    buffer.close()
    assert [length for length, _ in built] == [2, 3, 4, 2, 3, 4], "each batch is built once"
    assert threading.current_thread().name not in {name for _, name in built}


def test_an_error_of_a_batch_is_raised_in_the_step_that_needs_it():
    def build(samples):
        if samples[0].num_tokens == 3:
            raise InputError(expected="a picture", got="none", fix="put it back")
        return {}

    buffer = ReplayBuffer([[rolled(1.0, length=length)] for length in (1, 2)], build)
    assert buffer.get(0) == {}
    with pytest.raises(InputError, match="put it back"):
        buffer.get(1)
    buffer.close()


def test_replay_of_nothing_changes_nothing():
    rows = [rolled(0.0, uniform=True)] * 3
    assert selective_replay(rows, 1.0, random.Random(0)) == rows


# --- training ---


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Trainer after two steps on scripted rollouts in one process."""
    trainer = trainer_of(run_of(tmp_path_factory.mktemp("one")))
    trainer.train()
    return trainer


def test_rewards_of_scripted_rollouts_equal_values_computed_by_hand(written):
    first = written.records[0]["rewards"]
    # Groups of four. The scripts repeat after six rollouts, see `TURNS`. In each group two of four use an operation.
    assert [row[0] for row in first] == [1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0]
    with_operation = [0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0]
    assert [row[1] for row in first] == pytest.approx(
        [0.5 * (0.9 - 0.5) * one for one in with_operation]
    )
    assert [row[2] for row in first] == pytest.approx([0, 0, 0, -0.05, 0, 0, 0, 0, 0, -0.05, 0, 0])


@pytest.mark.slow
def test_two_processes_compute_the_same_losses_as_one(tmp_path, written):
    script = Path(__file__).parent / "rl_fixture.py"
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        records = json.loads((tmp_path / f"process-{rank}.json").read_text())
        for two, one in zip(records, written.records, strict=True):
            for name, value in one.items():
                assert np.allclose(two[name], value, rtol=1e-4, atol=1e-5), name


def test_identical_rollouts_have_the_loss_of_the_trl_trainer(tmp_path, written):
    stock = trainer_of(run_of(tmp_path), ScriptedStockTrainer)
    stock.train()
    ours = [record for record in written.records if "loss" in record]
    theirs = [record for record in stock.records if "loss" in record]
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["advantages"] == pytest.approx(other["advantages"], abs=1e-5)
        assert mine["loss"] == pytest.approx(other["loss"], abs=1e-5)
    # Batches have another order and sums another rounding, and Adam makes full steps for gradients near zero.
    pairs = zip(written.model.parameters(), stock.model.parameters(), strict=True)
    moved = torch.cat([(one - other).abs().flatten() for one, other in pairs]).detach()
    assert (moved < 1e-5).double().mean() > 0.999


def test_greedy_rollouts_have_the_tokens_of_ask(tmp_path, questions, processor):
    """Rollouts in training and traces of `ask_many`: ids, loss mask, operations."""
    run = run_of(
        tmp_path,
        questions_per_sync=4,
        group_size=2,
        minibatch=8,
        rollouts_at_once=8,
        max_turns=6,
        trl={"top_k": 1, "max_completion_length": 1500},
    )
    trainer = trainer_of(run, PixelReasonerTrainer)
    trainer.model.train()
    rows = list(question_rows(questions))
    found: list[RolloutSample] = []
    for start in range(0, len(rows), 4):
        found += trainer.generate_samples(
            [row for row in rows[start : start + 4] for _ in range(2)]
        )
    config = rollout_config(run).model_copy(update={"sampling": SamplingParams(max_new_tokens=96)})
    traces = {t.question.id: t for t in ask_many(questions, LocalModel("tiny"), config)}
    assert len(found) == 2 * len(questions)
    for sample in found:
        ours = traces[sample.trace.question.id]
        assert [t.calls for t in sample.trace.turns] == [t.calls for t in ours.turns]
        assert (sample.trace.answer, sample.trace.stop) == (ours.answer, ours.stop)
        encoded = encode(ours, processor)
        (one,) = sample.sequences
        ids = [*one.prompt_ids.tolist(), *one.completion_ids.tolist()]
        mask = [False] * len(one.prompt_ids) + one.loss_mask.tolist()
        assert ids == encoded.token_ids[: len(ids)]
        assert mask == encoded.trained[: len(mask)]
        assert not any(encoded.trained[len(mask) :])


def needing_operations(questions: list[Question]) -> list[Question]:
    """A question about a picture and one about a video."""
    found = [question for question in questions if question.needs_look]
    return [found[0], found[-1]]


def test_greedy_rollouts_have_the_tokens_of_trls_own_loop(tmp_path, questions):
    """Compares TRL's tool loop, with `generate` of transformers, and our loop with the engine."""
    run = run_of(
        tmp_path,
        questions_per_sync=2,
        group_size=2,
        minibatch=4,
        rollouts_at_once=4,
        trl={"top_k": 1, "max_completion_length": 1500},
    )
    ours, stock = trainer_of(run, PixelReasonerTrainer), trainer_of(run, StockTrainer)
    ours.model.train()
    stock.model.train()
    some = needing_operations(questions)
    rows = [row for row in question_rows(some) for _ in range(2)]
    settings, config = SETTINGS, rollout_config(run)
    theirs = [row for row in stock_rows(some, settings, config) for _ in range(2)]
    output = stock._generate_and_score_completions(theirs)
    for n, sample in enumerate(ours.generate_samples(rows)):
        (one,) = sample.sequences
        prompt = output["prompt_ids"][n][output["prompt_mask"][n].bool()]
        keep = output["completion_mask"][n].bool()
        assert one.prompt_ids.tolist() == prompt.tolist()
        assert one.completion_ids.tolist() == output["completion_ids"][n][keep].tolist()
        assert one.loss_mask.tolist() == output["tool_mask"][n][keep].bool().tolist()


@pytest.mark.parametrize("uses_engine", [True, False], ids=["engine", "generate of transformers"])
def test_batches_have_pixels_for_the_log_probabilities_of_any_source(
    tmp_path, questions, monkeypatch, uses_engine
):
    """Old and reference log-probabilities of greedy rollouts are those of a forward pass over the same batch."""
    if not uses_engine:
        monkeypatch.setattr("pixel_reasoner.train.grpo.can_use_engine", lambda trainer: False)
    sizes = {"questions_per_sync": 2, "group_size": 2, "minibatch": 2, "rollouts_at_once": 4}
    run = run_of(
        tmp_path,
        **sizes,
        trl={"top_k": 1, "beta": 0.1, "max_completion_length": 1500, "num_train_epochs": 1},
    )
    trainer = trainer_of(run, PixelReasonerTrainer)
    trainer.model.train()
    rows = [row for row in question_rows(needing_operations(questions)) for _ in range(2)]
    samples = trainer.generate_samples(rows)
    assert any(sample.trace.executed for sample in samples)
    batch = trainer.batches.loss_batch(samples)
    with torch.no_grad():
        logprobs = trainer.logprobs_of_batch(
            trainer.model, {k: v for k, v in batch.items() if k in IMAGE_INPUTS}
        )
    mask = batch["tool_mask"].bool()
    for name in ("old_per_token_logps", "ref_per_token_logps"):
        assert torch.allclose(batch[name][mask], logprobs[mask], atol=2e-3), name


IMAGE_INPUTS = (
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "pixel_values",
    "image_grid_thw",
    "mm_token_type_ids",
    "num_images",
    "picture_names",
)


def test_no_rollout_contains_a_generated_placeholder(tmp_path, questions, processor):
    """The logits of placeholders are raised. A generated placeholder would need a picture or a video that does not exist."""
    placeholders = [processor.image_token_id, processor.video_token_id]
    own = {
        "generation_kwargs": {"suppress_tokens": [5]}
    }  # tokens of the user settings are added to ours
    run = run_of(tmp_path, group_size=2, minibatch=6, mask_truncated=False, trl=own)
    trainer = trainer_of(run, PixelReasonerTrainer)

    def favor_placeholders(module, inputs, logits):
        logits[..., placeholders] += 1000.0

    trainer.model.lm_head.register_forward_hook(favor_placeholders)
    trainer.model.train()
    rows = [row for row in question_rows(questions[:3]) for _ in range(2)]
    for sample in trainer.generate_samples(rows):
        (one,) = sample.sequences
        assert not set(placeholders) & set(one.completion_ids[one.loss_mask].tolist())


# --- traces of rollouts ---


@pytest.fixture(scope="module", params=["compact", "pixel_reasoner"])
def sampled(request, tmp_path_factory) -> Path:
    """Traces of one step of a model with this dialect."""
    folder = tmp_path_factory.mktemp(request.param)
    model = folder / "model"
    shutil.copytree(TINY, model)
    settings = SETTINGS.model_copy(update={"dialect": request.param})
    (model / "pixel_reasoner.json").write_text(settings.model_dump_json())
    run = run_of(folder, model=str(model), sample_every=1, trl={"max_steps": 1})
    train_rl(run)
    return folder / "samples" / "rollouts-1.jsonl"


def test_traces_of_rollouts_record_policy_model_dialect_and_limits(sampled):
    for trace in load_traces(sampled):
        settings = trace.settings
        assert settings.dialect in str(sampled)
        assert settings.dialect_hash
        assert settings.model.architecture == "Qwen3VLForConditionalGeneration"
        assert (settings.limits.max_turns, settings.sampling.temperature) == (3, 1.0)
        assert settings.training.step == 0
        for turn in trace.turns:
            assert 0 < len(turn.token_ids) == len(turn.logprobs)
            assert max(turn.logprobs) <= 0


def test_rewards_and_advantages_of_sampled_rollouts_are_recorded(sampled):
    rewards = read_rewards(sampled)
    assert len(rewards) == len(list(load_traces(sampled)))
    assert set(rewards[0]) == {"correctness", "curiosity", "cost", "advantage"}
    groups = [rewards[:4], rewards[4:]]
    for group in groups:
        assert sum(one["advantage"] for one in group) == pytest.approx(0, abs=1e-5)


def test_traces_of_rollouts_pass_the_check_and_their_accuracy_is_a_metric(sampled):
    verdict = check_traces(load_run(sampled))
    assert (verdict.problems, verdict.checked) == ({}, 8)
    assert 0 <= verdict.metrics["accuracy"] <= 1
    assert verdict.metrics["kinds"] == {"sampled": 8}
    first, *_ = load_run(sampled)
    damaged = first.model_copy(update={"answer": "an answer that is not in its texts"})
    assert check_traces([damaged]).problems == {"replay": 1}


def test_traces_of_rollouts_are_exported_in_their_dialect(sampled, tmp_path):
    assert export_trl(sampled, tmp_path / "trl") == 8
    if "pixel_reasoner" in str(sampled.parent.parent.name):
        assert export_message_list(sampled, tmp_path / "json") == 8
        return
    with pytest.raises(InputError, match="'compact'"):
        export_message_list(sampled, tmp_path / "json")


@pytest.mark.parametrize(
    ("stopped_at", "num_iterations"),
    [
        pytest.param(2, 1, id="in the first epoch", marks=pytest.mark.slow),
        pytest.param(6, 1, id="in the second"),
        pytest.param(4, 2, id="two iterations a sync"),
    ],
)
def test_a_stopped_run_resumes_to_the_same_metrics(
    tmp_path, monkeypatch, stopped_at, num_iterations
):
    """Compare some steps in one run with the same steps in two runs: equal metrics."""
    steps = list(range(1, stopped_at + 3))

    def metrics(out: str) -> list[dict]:
        trl = {"max_steps": steps[-1], "save_strategy": "steps", "learning_rate": 1e-4}
        trl |= {"save_steps": 2 * num_iterations, "num_iterations": num_iterations}
        sizes = {"questions_per_sync": 2, "minibatch": 4, "rollouts_at_once": 8, "replay": True}
        train_rl(run_of(tmp_path / out, **sizes, trl=trl))
        rows = [json.loads(line) for line in (tmp_path / out / LOG).read_text().splitlines()]
        return [row for row in rows if "loss" in row]

    whole = metrics("whole")
    with monkeypatch.context() as patch:

        def stop(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == stopped_at

        patch.setattr(LogCallback, "on_step_end", stop)
        assert len(metrics("parts")) == stopped_at
    parts = metrics("parts")
    assert [row["step"] for row in whole] == [row["step"] for row in parts] == steps
    for one, other in zip(whole, parts, strict=True):
        names = {name for name in one if not re.match("seconds|perf|step_time", name)}
        assert names == {name for name in other if not re.match("seconds|perf|step_time", name)}
        for name in names:
            assert one[name] == pytest.approx(other[name], abs=1e-6), (name, one["step"])
    assert any(row["loss"] for row in whole)


def test_a_full_disk_is_an_error_and_the_last_complete_checkpoint_is_resumed(tmp_path):
    trl = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    run = run_of(tmp_path, trl=trl)
    with (
        full_disk(after_bytes=2_000_000),
        pytest.raises(OutputError, match="space for a checkpoint"),
    ):
        train_rl(run)
    assert last_checkpoint(tmp_path) is None
    assert (train_rl(run) / "model.safetensors").exists()
    assert last_checkpoint(tmp_path).endswith("checkpoint-2")


def failing_reward(trace: Trace) -> float:
    """For the test below."""
    raise ValueError("no idea")


def nan_reward(trace: Trace) -> float:
    """For the test below."""
    return float("nan")


@pytest.mark.parametrize("function", [failing_reward, nan_reward])
def test_the_error_of_a_reward_function_names_it_and_its_trace_is_saved(tmp_path, function):
    trainer = trainer_of(
        run_of(tmp_path, reward_functions=(f"test_train_rl:{function.__name__}",)),
        user_rewards=[function],
    )
    with pytest.raises(UsageError, match=function.__name__):
        trainer.train()
    (trace,) = load_traces(tmp_path / "failed-reward.jsonl")
    assert trace.turns


def test_a_custom_reward_is_added(tmp_path):
    def short(trace: Trace) -> float:
        return 0.25 * (len(trace.turns) == 1)

    run = run_of(tmp_path, reward_functions=("x:short",), trl={"max_steps": 1})
    trainer = trainer_of(run, user_rewards=[short])
    trainer.train()
    assert [row[3] for row in trainer.records[0]["rewards"]][:4] == [0.25, 0, 0.25, 0]


@pytest.mark.parametrize(
    ("more", "is_trained"),
    [
        ({}, lambda name: "visual" not in name),
        ({"train_vision": True}, lambda name: True),
        ({"lora_rank": 4}, lambda name: "lora" in name),
    ],
)
def test_trained_parameters_follow_the_run(tmp_path, more, is_trained):
    trainer = trainer_of(run_of(tmp_path, **more, trl={"max_steps": 1}))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(map(is_trained, moved))
    assert ("visual" in " ".join(moved)) == bool(more.get("train_vision"))
    assert all(math.isfinite(record["loss"]) for record in trainer.records if "loss" in record)


@pytest.mark.parametrize(
    ("stop", "settings", "left_out"),
    [
        (StopReason.ANSWERED, {"mask_over_turns": True}, False),
        (StopReason.MAX_TURNS, {}, False),
        (StopReason.MAX_TURNS, {"mask_over_turns": True}, True),
        (StopReason.MAX_NEW_TOKENS, {}, True),
        (StopReason.MAX_CONTEXT, {}, True),
        (StopReason.MAX_CONTEXT, {"mask_truncated": False}, False),
        (StopReason.NO_ANSWER, {"mask_over_turns": True}, False),
    ],
)
def test_rollouts_are_excluded_from_the_loss_by_stop_reason(tmp_path, stop, settings, left_out):
    trace = Trace(question=Question(id="x", text="?", media=()), pictures=(), turns=(), stop=stop)
    assert is_left_out(trace, run_of(tmp_path, **settings)) is left_out


def test_trained_weights_keep_32_bits():
    full = SimpleNamespace(train_vision=False, lora_rank=0)
    lora = SimpleNamespace(train_vision=False, lora_rank=4)
    assert load_weights(TINY, full, bf16=True).dtype is torch.float32
    assert load_weights(TINY, lora, bf16=True).dtype is torch.bfloat16
