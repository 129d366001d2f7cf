"""RL: runs that fail early, rollouts that are those of `ask`, groups that may straddle processes, losses that are TRL's."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import full_disk
from pixel_reasoner.data.encode import encode
from pixel_reasoner.dialects import DIALECTS
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.folder import FolderSettings, folder_settings
from pixel_reasoner.models.local import LocalModel, load_processor
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import CallErrorKind, StopReason, Trace, load_traces
from pixel_reasoner.sources.questions import WorldMix, world_questions
from pixel_reasoner.train.callbacks import LOG, LogCallback
from pixel_reasoner.train.config import RlRun, arithmetic
from pixel_reasoner.train.grpo import (
    PixelReasonerTrainer,
    RolloutSample,
    _left_out,
    micro_batches,
    reward_terms,
    selective_replay,
)
from pixel_reasoner.train.plan import plan
from pixel_reasoner.train.rl import (
    load_questions,
    load_reward,
    question_rows,
    rules_of,
    train_rl,
    trl_config,
)
from pixel_reasoner.train.trl_env import (
    TrlToolEnv,
    as_dialect_template,
    finished_trace,
    num_pictures_in_context,
    opening_messages,
    turn_reader,
)
from pixel_reasoner.train.weights import last_checkpoint, load_weights
from pixel_reasoner.world import render, scenes
from rl_fixture import BROKEN, LOOK, TINY, Written, run_of, trainer_of
from stock import StockTrainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

SPEAKER = folder_settings(Path(TINY))


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


# --- runs that cannot work ---


@pytest.mark.parametrize(
    ("text", "trl", "reward", "told"),
    [
        ("group_sise = 4", "", "", "did you mean group_size"),
        ("group_size = 1\nminibatch = 8", "", "", "difference within a group"),
        ("questions_per_sync = 4\ngroup_size = 4\nminibatch = 7", "", "", "take 4 or 8"),
        ("rollouts_at_once = 6", "", "", "TOML"),
        ("max_turns = 1", "", "", "a look needs a turn after"),
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
        ("", "", "gamma = 1.0", "keys of"),
    ],
)
def test_a_run_that_cannot_work_fails_before_anything_is_loaded(tmp_path, text, trl, reward, told):
    with pytest.raises((UsageError, InputError), match=told):
        RlRun.read(write_run(tmp_path, text, trl, reward))


def test_a_run_without_questions_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('out = "out"\n')
    with pytest.raises(UsageError, match=r"questions or \[pixelworld\]"):
        RlRun.read(path)


@pytest.mark.parametrize(
    ("trl", "told"),
    [
        ("lerning_rate = 1e-5", "did you mean learning_rate"),
        ("save_steps = 3", "multiple of the 2 steps"),
        ("per_device_train_batch_size = 3", "divides"),
        ('loss_type = "grop"', "loss_type grpo"),
        ('optim = "sdg"', "GRPOConfig"),
    ],
)
def test_options_of_trl_are_checked(tmp_path, trl, told):
    with pytest.raises(UsageError, match=told):
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
def test_a_reward_function_that_is_not_there_is_named(name):
    with pytest.raises(UsageError, match="reward functions as"):
        load_reward(name)


# --- arithmetic ---


def test_the_papers_cluster_comes_out_as_in_the_paper():
    run = RlRun(out="out", questions=("q",), trl={"per_device_train_batch_size": 2})
    sums = arithmetic(run, processes=32)
    assert (sums.rollouts_per_sync, sums.minibatches_per_sync) == (4096, 16)
    assert (sums.micro_batch, sums.accumulation, sums.rollouts_per_process) == (2, 4, 128)


def test_a_plan_loads_nothing_and_refuses_what_does_not_fit():
    run = RlRun(
        out="out",
        questions=("q",),
        model="Qwen/Qwen2.5-VL-7B-Instruct",
        rollouts_at_once=16,
        trl={"per_device_train_batch_size": 1, "use_vllm": True, "vllm_mode": "colocate"},
    )
    made = plan(run, gpus=32, gpu_gib=80)
    assert made.states_bytes == pytest.approx(8.29e9 * 16 / 32)
    assert any("gradient steps on them: 16" in line for line in made.lines(run, 80))
    with pytest.raises(UsageError, match="holds the weights and one rollout"):
        plan(run, gpus=32, gpu_gib=24)
    with pytest.raises(UsageError, match="fits into 80 GiB"):
        plan(run, gpus=1, gpu_gib=80)
    with pytest.raises(UsageError, match="share evenly"):
        plan(run, gpus=3, gpu_gib=80)


def test_the_shape_of_a_folder_is_counted_without_its_weights(tmp_path):
    from safetensors import safe_open

    from pixel_reasoner.train.plan import shape_of

    (tmp_path / "config.json").write_text((Path(TINY) / "config.json").read_text())
    with safe_open(Path(TINY) / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert shape_of(str(tmp_path)).parameters == pytest.approx(stored, rel=0.01)


# --- a rollout in TRL's loop ---


def played(question: Question, turns: list[str], *, ended: bool = True, **rules) -> Trace:
    """What TRL's loop does with turns of a model, one rollout."""
    chosen = RolloutConfig(**rules)
    environment = TrlToolEnv(SPEAKER, chosen, MediaCache())
    environment.reset(question.model_dump_json())
    said: list[dict] = []
    for text in turns[:-1]:
        call = {"function": {"name": "operate", "arguments": {"turn": text}}}
        said.append({"role": "assistant", "content": "", "tool_calls": [call]})
        said.append({"role": "tool", "content": environment.operate(text)})
    said.append({"role": "assistant", "content": turns[-1]})
    trace = finished_trace(environment, said, ended=ended)
    # What the last turn calls is executed, and nobody sees it.
    seen = [turn.observation for turn in trace.turns[:-1] if turn.observation]
    shown = len(trace.pictures) + sum(len(one.pictures) for one in seen)
    assert num_pictures_in_context(trace, said) == shown
    return trace


def asked(question: Question, turns: list[str]) -> Trace:
    """The same turns in our own loop."""
    rollout = Rollout(question, SPEAKER, RolloutConfig())
    for text in turns:
        rollout.take(Completion(text=text), 0.0)
    return rollout.trace({})


@pytest.mark.parametrize(
    "turns",
    [
        [r"\boxed{R}"],
        [LOOK.format(0.1), r"\boxed{R}"],
        [BROKEN, LOOK.format(0.2), r"\boxed{R}"],
        [LOOK.format(0.95), r"\boxed{R}"],
        ["I cannot tell."],
    ],
)
def test_a_rollout_in_training_is_a_rollout_of_ask(questions, turns):
    one, other = played(questions[0], turns), asked(questions[0], turns)
    told = {"seconds", "settings", "turns"}
    assert one.model_dump(exclude=told) == other.model_dump(exclude=told)
    for mine, yours in zip(one.turns, other.turns, strict=True):
        assert (mine.text, mine.call, mine.observation) == (
            yours.text,
            yours.call,
            yours.observation,
        )


def test_a_malformed_call_is_answered(questions):
    trace = played(questions[0], [BROKEN, r"\boxed{R}"])
    assert trace.rejected[0].error is CallErrorKind.MALFORMED_CALL


def test_a_turn_that_was_cut_off_ends_a_rollout(questions):
    assert played(questions[0], ["I zoom in. <tool"], ended=False).stop is StopReason.MAX_NEW_TOKENS


def test_a_call_in_the_last_turn_is_executed_and_ends_the_rollout(questions):
    from pixel_reasoner.schema.settings import RolloutLimits

    trace = played(
        questions[0], [LOOK.format(0.1), LOOK.format(0.2)], limits=RolloutLimits(max_turns=2)
    )
    assert trace.stop is StopReason.MAX_TURNS
    assert len(trace.executed) == 2


def test_a_result_that_left_no_room_ends_a_rollout(questions):
    environment = TrlToolEnv(SPEAKER, RolloutConfig(), MediaCache())
    environment.reset(questions[0].model_dump_json())
    parts = environment.operate(LOOK.format(0.1))
    said = [{"role": "assistant", "content": "", "tool_calls": []}]
    trace = finished_trace(environment, said, ended=True)  # TRL took the result back
    assert (trace.stop, num_pictures_in_context(trace, said)) == (StopReason.MAX_CONTEXT, 1)
    environment.reset(questions[0].model_dump_json())
    parts = environment.operate(LOOK.format(0.1))
    said.append({"role": "tool", "content": parts})
    trace = finished_trace(environment, said, ended=True)  # TRL left it, and no token after it
    assert (trace.stop, num_pictures_in_context(trace, said)) == (StopReason.MAX_CONTEXT, 2)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (LOOK.format(0.1), True),
        (BROKEN, True),
        (LOOK.format(0.1) + " and so on", True),
        (r"It is \boxed{R}", False),
        ("I cannot tell.", False),
    ],
)
def test_every_turn_that_tries_to_call_is_handed_on_as_it_was_written(processor, text, calls):
    tokenizer = processor.tokenizer
    read = turn_reader(tokenizer, "compact", [tokenizer.eos_token_id])
    ids = tokenizer.encode(text, add_special_tokens=False)
    message = read([*ids, tokenizer.eos_token_id], prefix=[1], tools=[])
    assert ("tool_calls" in message) == calls
    if calls:
        assert message["tool_calls"][0]["function"]["arguments"] == {"turn": text}
    else:
        assert message["content"] == text
    assert "tool_calls" not in read(ids)  # cut off
    assert read([])["content"] == ""


def test_an_environment_has_one_tool_and_no_model_hears_of_it(questions):
    import inspect

    public = [
        name
        for name, _ in inspect.getmembers(TrlToolEnv, inspect.isfunction)
        if not name.startswith("_")
    ]
    assert public == ["operate", "reset"]
    for message in Rollout(questions[0], SPEAKER, RolloutConfig()).messages():
        assert "operate" not in str(message["content"])


def test_templates_say_the_same_with_and_without_tools(questions, processor):
    plain = Rollout(questions[0], SPEAKER, RolloutConfig())
    plain.take(Completion(text=LOOK.format(0.1)), 0.0)
    messages = plain.messages()
    call = {
        "type": "function",
        "function": {"name": "operate", "arguments": {"turn": LOOK.format(0.1)}},
    }
    tools = [
        *messages[:2],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "operate", "content": messages[3]["content"]},
    ]

    def spoken(conversation, template):
        return processor.apply_chat_template(
            conversation, chat_template=template, tokenize=False, add_generation_prompt=True
        )

    expected = spoken(messages, processor.chat_template)
    assert spoken(messages, as_dialect_template(processor.chat_template)) == expected
    assert spoken(tools, as_dialect_template(processor.chat_template)) == expected


@pytest.mark.parametrize("family", ["attribute", "video"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_rollout_opens_as_in_ask(tmp_path, dialect, family):
    question = with_media_root(
        next(iter(render(scenes(family, "train", 0, 1), tmp_path))), tmp_path
    )
    speaker = FolderSettings(dialect=dialect, budgets=SPEAKER.budgets)
    begin = opening_messages(speaker, RolloutConfig(), question.media)
    environment = TrlToolEnv(speaker, RolloutConfig(), MediaCache())
    parts = environment.reset(question=question.model_dump_json(), prompt=begin)
    plain = Rollout(question, speaker, RolloutConfig()).messages()
    assert [*begin[:-1], {**begin[-1], "content": parts}] == plain


def test_the_rollouts_of_a_question_open_its_media_once(questions, monkeypatch):
    opened: list[Path] = []
    from pixel_reasoner.media import decoder

    real = decoder.open_image
    monkeypatch.setattr(
        decoder, "open_image", lambda path, limits: (opened.append(path), real(path, limits))[1]
    )
    albums = MediaCache(max_entries=1)
    for question in [questions[0]] * 4 + [questions[1], questions[0]]:
        albums.open(question, SPEAKER.budgets).view(1)
    assert len(opened) == 3  # the third because only one was kept


# --- groups ---


def table(*rows: tuple[float, int]) -> torch.Tensor:
    """Gathered rollouts: correct and operations, the rest as it comes."""
    return torch.tensor(
        [[correct, count, count, 0, 1, 0, 1, 1] for correct, count in rows], dtype=torch.float64
    )


def test_each_group_is_shaped_for_itself():
    run = RlRun(out="out", questions=("q",), group_size=4, rollouts_at_once=8)
    lazy, eager = [(1, 1), (0, 0), (0, 0), (0, 0)], [(1, 1), (0, 1), (0, 3), (0, 0)]
    terms, weights = reward_terms(table(*lazy, *eager), run)
    assert terms[:, 1].tolist() == pytest.approx([0.025, 0, 0, 0, 0, 0, 0, 0])
    assert terms[:, 2].tolist() == pytest.approx([0, 0, 0, 0, 0, 0, -0.1, 0])
    assert weights.tolist() == [1.0] * 8


def test_questions_that_all_or_none_answer_can_weigh_less():
    run = RlRun(
        out="out",
        questions=("q",),
        group_size=2,
        rollouts_at_once=2,
        solved_weight=0.0,
        unsolved_weight=0.5,
    )
    _, weights = reward_terms(table((1, 1), (1, 0), (0, 1), (0, 0), (1, 0), (0, 0)), run)
    assert weights.tolist() == [0, 0, 0.5, 0.5, 1, 1]


def rolled(advantage: float, *, uniform: bool = False) -> RolloutSample:
    nothing = torch.zeros(1)
    trace = Trace(question=Question(id="1", text="?", media=()), stop=StopReason.NO_ANSWER)
    return RolloutSample(nothing, nothing, nothing, {}, advantage, uniform, trace, 0)


def test_replay_draws_by_advantage_and_leaves_the_others_where_they_are():
    rows = [
        rolled(3.0),
        rolled(-1.0),
        rolled(0.0),
        *[rolled(0.0, uniform=True) for _ in range(4000)],
    ]
    after = selective_replay(rows, 1.0, random.Random(0))
    assert after[:3] == rows[:3]
    assert not any(row.uniform for row in after)
    share = sum(row.advantage == 3.0 for row in after[3:]) / 4000
    assert share == pytest.approx(0.75, abs=0.03)
    even = selective_replay(rows, 0.0, random.Random(0))
    assert sum(row.advantage == 3.0 for row in even[3:]) / 4000 == pytest.approx(0.5, abs=0.03)


def test_rollouts_of_one_gradient_step_are_batched_by_length():
    lengths = [5, 1, 4, 2, 9, 7, 8, 6]
    rows = [rolled(1.0)._replace(completion_ids=torch.zeros(length)) for length in lengths]
    batches = micro_batches(rows, count=4, accumulation=2)
    assert [[len(row.completion_ids) for row in batch] for batch in batches] == [
        [1, 2],
        [4, 5],
        [6, 7],
        [8, 9],
    ]


def test_replay_of_nothing_changes_nothing():
    rows = [rolled(0.0, uniform=True)] * 3
    assert selective_replay(rows, 1.0, random.Random(0)) == rows


# --- training ---


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two steps on written rollouts, by one process."""
    trainer = trainer_of(run_of(tmp_path_factory.mktemp("one")))
    trainer.train()
    return trainer


def test_written_rollouts_are_rewarded_as_worked_out_by_hand(written):
    first = written.told[0]["rewards"]
    # Groups of four, and what rollouts say repeats after six: see `TURNS`. In each group two of four look.
    assert [row[0] for row in first] == [1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0]
    looked = [0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0]
    assert [row[1] for row in first] == pytest.approx([0.5 * (0.9 - 0.5) * one for one in looked])
    assert [row[2] for row in first] == pytest.approx([0, 0, 0, -0.05, 0, 0, 0, 0, 0, -0.05, 0, 0])


def test_two_processes_make_of_the_same_rollouts_what_one_makes(tmp_path, written):
    script = Path(__file__).parent / "rl_fixture.py"
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
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
        told = json.loads((tmp_path / f"process-{rank}.json").read_text())
        for two, one in zip(told, written.told, strict=True):
            for name, value in one.items():
                assert np.allclose(two[name], value, rtol=1e-4, atol=1e-5), name


class StockOnWritten(Written, StockTrainer):
    """TRL's own trainer on the same rollouts, with the same environment."""


def test_identical_rollouts_have_the_loss_of_a_stock_trainer(tmp_path, written):
    stock = trainer_of(run_of(tmp_path), StockOnWritten)
    stock.train()
    ours = [told for told in written.told if "loss" in told]
    theirs = [told for told in stock.told if "loss" in told]
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["advantages"] == pytest.approx(other["advantages"], abs=1e-5)
        assert mine["loss"] == pytest.approx(other["loss"], abs=1e-5)
    # Batches are in another order, sums are rounded otherwise, and Adam makes whole steps of gradients near nothing.
    pairs = zip(written.model.parameters(), stock.model.parameters(), strict=True)
    moved = torch.cat([(one - other).abs().flatten() for one, other in pairs]).detach()
    assert (moved < 1e-5).double().mean() > 0.999


def test_both_loops_say_the_same_tokens_and_train_the_same(tmp_path, questions, processor):
    """Greedy rollouts in TRL's loop and in ours: ids, loss mask, operations."""
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
    rows = list(question_rows(questions, SPEAKER, rules_of(run)))
    seen: list[RolloutSample] = []
    for start in range(0, len(rows), 4):
        seen += trainer._rolled_out([row for row in rows[start : start + 4] for _ in range(2)])
    rules = rules_of(run).model_copy(update={"sampling": SamplingParams(max_new_tokens=96)})
    traces = {t.question.id: t for t in ask_many(questions, LocalModel("tiny"), rules)}
    assert len(seen) == 2 * len(questions)
    for row in seen:
        ours = traces[row.trace.question.id]
        assert [t.call for t in row.trace.turns] == [t.call for t in ours.turns]
        assert (row.trace.answer, row.trace.stop) == (ours.answer, ours.stop)
        encoded = encode(ours.model_copy(update={"settings": {"dialect": "compact"}}), processor)
        ids = [*row.prompt_ids.tolist(), *row.completion_ids.tolist()]
        mask = [False] * len(row.prompt_ids) + row.trained.tolist()
        assert ids == encoded.token_ids[: len(ids)]
        assert mask == encoded.trained[: len(mask)]
        assert not any(encoded.trained[len(mask) :])


def test_no_rollout_holds_a_placeholder_of_pixels_that_are_not_there(
    tmp_path, questions, processor
):
    """A model that would write nothing else: the next turn would miss the picture or the video behind it."""
    placeholders = [processor.image_token_id, processor.video_token_id]
    own = {
        "generation_kwargs": {"suppress_tokens": [5]}
    }  # a list of one's own is added to, not obeyed instead
    run = run_of(tmp_path, group_size=2, minibatch=6, mask_truncated=False, trl=own)
    trainer = trainer_of(run, PixelReasonerTrainer)

    def push(module, inputs, logits):
        logits[..., placeholders] += 1000.0

    trainer.model.lm_head.register_forward_hook(push)
    trainer.model.train()
    rows = list(question_rows(questions[:3], SPEAKER, rules_of(run)))
    for row in trainer._rolled_out([row for row in rows for _ in range(2)]):
        assert not set(placeholders) & set(row.completion_ids[row.trained].tolist())


@pytest.mark.parametrize("stopped_at", [2, 6], ids=["in the first epoch", "in the second"])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(tmp_path, monkeypatch, stopped_at):
    """Some steps in one go, and in two: the same rows of figures."""
    steps = list(range(1, stopped_at + 3))

    def figures(out: str) -> list[dict]:
        trl = {"max_steps": steps[-1], "save_strategy": "steps", "save_steps": 2}
        trl["learning_rate"] = 1e-4
        sizes = {"questions_per_sync": 2, "minibatch": 4, "rollouts_at_once": 8, "replay": True}
        train_rl(run_of(tmp_path / out, **sizes, trl=trl))
        rows = [json.loads(line) for line in (tmp_path / out / LOG).read_text().splitlines()]
        return [row for row in rows if "loss" in row]

    whole = figures("whole")
    with monkeypatch.context() as patch:

        def stop(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == stopped_at

        patch.setattr(LogCallback, "on_step_end", stop)
        assert len(figures("parts")) == stopped_at
    parts = figures("parts")
    assert [row["step"] for row in whole] == [row["step"] for row in parts] == steps
    for one, other in zip(whole, parts, strict=True):
        told = {name for name in one if not re.match("seconds|step_time", name)}
        assert told == {name for name in other if not re.match("seconds|step_time", name)}
        for name in told:
            assert one[name] == pytest.approx(other[name], abs=1e-6), (name, one["step"])
    assert any(row["loss"] for row in whole)


def test_a_disk_that_fills_is_an_error_and_the_last_whole_checkpoint_is_gone_on_from(tmp_path):
    trl = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    run = run_of(tmp_path, trl=trl)
    with (
        full_disk(after_bytes=2_000_000),
        pytest.raises(OutputError, match="room for a checkpoint"),
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
def test_a_reward_function_that_fails_is_named_and_its_trace_kept(tmp_path, function):
    trainer = trainer_of(
        run_of(tmp_path, reward_functions=(f"test_train_rl:{function.__name__}",)),
        own_rewards=[function],
    )
    with pytest.raises(UsageError, match=function.__name__):
        trainer.train()
    (trace,) = load_traces(tmp_path / "failed-reward.jsonl")
    assert trace.turns


def test_a_reward_of_ones_own_is_added(tmp_path):
    def short(trace: Trace) -> float:
        return 0.25 * (len(trace.turns) == 1)

    trainer = trainer_of(run_of(tmp_path, reward_functions=("x:short",)), own_rewards=[short])
    trainer.train()
    assert [row[3] for row in trainer.told[0]["rewards"]][:4] == [0.25, 0, 0.25, 0]


@pytest.mark.parametrize(
    ("more", "is_trained"),
    [
        ({}, lambda name: "visual" not in name),
        ({"train_vision": True}, lambda name: True),
        ({"lora_rank": 4}, lambda name: "lora" in name),
    ],
)
def test_what_is_trained_is_what_the_run_says(tmp_path, more, is_trained):
    trainer = trainer_of(run_of(tmp_path, **more))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(map(is_trained, moved))
    assert ("visual" in " ".join(moved)) == bool(more.get("train_vision"))
    assert all(math.isfinite(told["loss"]) for told in trainer.told if "loss" in told)


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
def test_rollouts_are_left_out_of_the_loss_by_how_they_ended(tmp_path, stop, settings, left_out):
    trace = Trace(question=Question(id="x", text="?", media=()), pictures=(), turns=(), stop=stop)
    assert _left_out(trace, run_of(tmp_path, **settings)) is left_out


def test_weights_that_are_trained_keep_32_bits():
    full = SimpleNamespace(train_vision=False, lora_rank=0)
    lora = SimpleNamespace(train_vision=False, lora_rank=4)
    assert load_weights(TINY, full, bf16=True).dtype is torch.float32
    assert load_weights(TINY, lora, bf16=True).dtype is torch.bfloat16
