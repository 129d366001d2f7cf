"""RL with vLLM servers: the client and its errors against recorded replies, then runs against vLLM on the CPU."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from clusters.vllm_process import (
    ADAPTER_FLAGS,
    PYTHON,
    TRAINING_ENVIRONMENT,
    TRAINING_FLAGS,
    VllmProcess,
)
from pixel_reasoner.errors import EndpointError, UsageError
from pixel_reasoner.models.folder import model_folder
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.folder import save_run_settings, training_folder
from pixel_reasoner.train.rl import train_rl
from pixel_reasoner.train.rollouts.turn_source import ContinuousTurnSource, TurnRequest
from pixel_reasoner.train.vllm.check import check_servers
from pixel_reasoner.train.vllm.client import (
    Prompt,
    ServerDown,
    VllmClient,
    collapse_placeholders,
    parse_generation,
    retry,
)
from pixel_reasoner.train.vllm.options import VllmOptions
from pixel_reasoner.train.vllm.servers import VllmServers, WeightVersion
from pixel_reasoner.train.vllm.source import Limits, VllmTurnSource
from vllm_fixture import IMAGE, REPLIES, FakeVllm

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

PICTURE = Image.new("RGB", (64, 64), "red")
IDS = [1, *[IMAGE] * 4, 9]
"""prompt with a picture of four visual tokens"""


@pytest.fixture
def fake():
    with FakeVllm() as server:
        yield server


def version_of(name: str, folder: str, *, is_adapter: bool = False) -> WeightVersion:
    logprobs = [-0.5 - 0.001 * len(folder)] * 2
    probe = Prompt([*IDS, 7, 8], [PICTURE])
    return WeightVersion(name, folder, is_adapter, False, probe, logprobs, tolerance=1e-6)


def servers_of(fake: FakeVllm, folder: Path, **options: float) -> VllmServers:
    wait = {"wait_s": 0.5, "request_timeout_s": 5.0} | options
    return VllmServers(VllmOptions(url=(fake.url,), **wait), IMAGE, folder)


@pytest.fixture
def source(fake, tmp_path):
    servers = servers_of(fake, tmp_path)
    servers.load(version_of("run-1", "/weights/1"))
    made = VllmTurnSource(servers, Limits({"temperature": 1.0}, 16, 4096))
    yield made
    made.close()


# --- requests and replies ---


@given(st.lists(st.one_of(st.integers(6, 20), st.integers(1, 9).map(lambda n: -n)), max_size=30))
def test_collapsed_placeholders_expand_to_the_prompt_again(parts):
    """A negative number -n is a picture of n visual tokens; text separates pictures, as vision_start and vision_end do."""
    expanded, counts = [], []
    for part in parts:
        expanded += [3, *[IMAGE] * -part, 4] if part < 0 else [part]
        counts += [-part] if part < 0 else []
    collapsed = collapse_placeholders(expanded, IMAGE, len(counts))
    left = iter(counts)
    assert [
        one for id in collapsed for one in [id] * (next(left) if id == IMAGE else 1)
    ] == expanded


@pytest.mark.parametrize("num_images", [0, 2])
def test_another_number_of_pictures_than_placeholders_is_an_error(num_images):
    with pytest.raises(ValueError, match="runs of placeholders"):
        collapse_placeholders(IDS, IMAGE, num_images)


def test_a_recorded_reply_of_vllm_is_parsed():
    body = REPLIES["generate"]["body"]
    found = parse_generation(body)
    assert found.ids == body["choices"][0]["token_ids"]
    assert len(found.logprobs) == len(found.ids)
    assert all(-5 < one <= 0 for one in found.logprobs)
    assert found.versions == {"default"}
    assert not found.is_aborted


def test_logprobs_of_both_reply_formats_and_missing_ones():
    def reply(*entries: dict) -> dict:
        return {"choices": [{"token_ids": [7, 8], "logprobs": {"content": list(entries)}}]}

    new = [{"token_id": 7, "logprob": -1.0}, {"token_id": 8, "logprob": -9999.0}]
    old = [{"token": "token_id:7", "logprob": -1.0}, {"token": "token_id:8", "logprob": -2.0}]
    first, second = parse_generation(reply(*new)).logprobs
    assert first == -1.0
    assert math.isnan(second)
    assert parse_generation(reply(*old)).logprobs == [-1.0, -2.0]
    for broken in (reply(new[0]), reply(new[1], new[0]), {"choices": []}, {}):
        with pytest.raises(ServerDown):
            parse_generation(broken)


def test_a_request_has_one_placeholder_per_picture_and_a_lossless_picture(fake):
    client = VllmClient(fake.url, IMAGE, 5.0)
    client.generate(Prompt(IDS, [PICTURE]), {"max_tokens": 2})
    (_, body), *_ = fake.calls
    assert body["token_ids"] == [1, IMAGE, 9]
    assert body["content_parts"][0]["url"].startswith("data:image/png;base64,")
    client.close()


def test_a_picture_of_another_number_of_tokens_is_an_error(fake):
    fake.repeats = 5
    client = VllmClient(fake.url, IMAGE, 5.0)
    with pytest.raises(
        EndpointError, match=r"6 prompt tokens, 4 of them.*7 tokens, 5.*pixel limits"
    ):
        client.generate(Prompt(IDS, [PICTURE]), {"max_tokens": 2})
    client.close()


def test_a_server_that_never_answers_is_asked_for_the_given_time():
    now, pauses = [0.0], []

    def send() -> None:
        now[0] += 1.0
        raise ServerDown("connection refused")

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    with pytest.raises(EndpointError, match=r"within 60 s.*connection refused.*resumes"):
        retry(send, url="http://x", wait_s=60.0, sleep=sleep, clock=lambda: now[0])
    assert 60 <= now[0] <= 63
    assert pauses[:3] == [0.2, 0.4, 0.8]


# --- weights ---


def test_an_update_pauses_reloads_clears_caches_verifies_and_resumes(fake, tmp_path):
    servers = servers_of(fake, tmp_path)
    servers.load(version_of("run-1", "/weights/1"))
    assert fake.paths() == [
        *("/pause", "/collective_rpc", "/reset_encoder_cache", "/reset_prefix_cache", "/resume"),
        *("/weight_checker", "/inference/v1/generate", "/update_weight_version"),
    ]
    assert (fake.folder, fake.version, fake.is_paused) == ("/weights/1", "run-1", False)


def test_an_update_without_effect_is_an_error(fake, tmp_path):
    servers = servers_of(fake, tmp_path)
    fake.ignores_weights = True
    with pytest.raises(
        EndpointError, match=r"log-probabilities of a fixed answer.*mean difference"
    ):
        servers.load(version_of("run-1", "/weights/1"))
    assert fake.version == "default", "a failed update has no name"


def test_equal_checksums_of_other_weights_are_an_error(fake, tmp_path):
    servers = servers_of(fake, tmp_path)
    servers.load(version_of("run-1", "/weights/1"))
    fake.ignores_weights = True
    with pytest.raises(EndpointError, match="the same checksums as before"):
        servers.load(version_of("run-2", "/weights/22"))


def test_a_folder_that_the_server_cannot_load_is_an_error_at_once(fake, tmp_path):
    servers = servers_of(fake, tmp_path, wait_s=60.0)
    fake.cannot_load = True
    with pytest.raises(EndpointError, match=r"/weights/1 as a folder.*Repo id.*the same path"):
        servers.load(version_of("run-1", "/weights/1"))
    assert fake.paths().count("/collective_rpc") == 1


def test_an_adapter_has_a_new_name_in_each_update_and_the_old_one_is_unloaded(fake, tmp_path):
    servers = servers_of(fake, tmp_path)
    for number in (1, 2):
        servers.load(version_of(f"run-{number}", f"/adapters/{number}", is_adapter=True))
        assert fake.adapters == {f"run-{number}": f"/adapters/{number}"}
    assert "/collective_rpc" not in fake.paths()


# --- turns ---


def test_the_source_is_a_continuous_turn_source(source):
    assert isinstance(source, ContinuousTurnSource)


def test_turns_are_in_the_order_of_prompts_and_repeat_with_the_same_random_state(source):
    prompts = [[1, *[3] * n] for n in range(6)]
    torch.manual_seed(1)
    ids, logprobs = source.generate(prompts, None)
    assert [one[1] for one in ids] == [10 + len(prompt) % 7 for prompt in prompts]
    assert all(len(a) == len(b) for a, b in zip(ids, logprobs, strict=True))
    torch.manual_seed(1)
    assert source.generate(prompts, None)[0] == ids
    assert source.generate(prompts, None)[0] != ids, "other seeds"


@pytest.mark.parametrize("failure", ["down", "500", "restarted"])
@pytest.mark.parametrize("is_adapter", [False, True], ids=["weights", "adapter"])
def test_a_server_that_returns_gets_the_current_weights_before_it_generates(
    fake, tmp_path, failure, is_adapter
):
    servers = servers_of(fake, tmp_path)
    version = version_of("run-1", "/weights/1", is_adapter=is_adapter)
    servers.load(version)
    source = VllmTurnSource(servers, Limits({}, 16, 4096))
    fake.broken = [failure]
    if failure != "restarted":
        fake.restart()
    _, logprobs = source.generate([IDS], [[PICTURE]])
    assert logprobs[0] == [version.logprobs[0]] * 3, "generated with the current weights"
    assert servers.num_recovered == 1
    source.close()


def test_a_server_that_does_not_return_ends_the_run_in_one_line(source, fake):
    fake.broken = ["500"] * 1000
    with pytest.raises(EndpointError, match=r"answers within 0.5 s") as caught:
        source.generate([IDS, IDS], [[PICTURE], [PICTURE]])
    assert "\n" not in str(caught.value)


def test_interrupted_turns_are_returned_with_their_tokens(source, fake):
    fake.delay_s = 30.0
    for key in range(80):  # more than the maximum number of concurrent requests
        source.submit(TurnRequest(key, IDS, [PICTURE], 16))
    assert source.poll(0.05) == []
    started = time.monotonic()
    turns = source.interrupt()
    assert time.monotonic() - started < 10.0
    assert sorted(one.key for one in turns) == list(range(80))
    assert all(one.is_interrupted for one in turns)
    assert {len(one.ids) for one in turns} == {0, 1}
    fake.delay_s = 0.0
    source.submit(TurnRequest(0, IDS, [PICTURE], 16))
    assert [one.is_interrupted for one in source.poll(5.0)] == [False]


def test_rollouts_of_a_question_use_the_same_server(fake, tmp_path):
    with FakeVllm() as other:
        options = VllmOptions(url=(fake.url, other.url), wait_s=0.5, request_timeout_s=5.0)
        servers = VllmServers(options, IMAGE, tmp_path)
        servers.load(version_of("run-1", "/weights/1"))
        source = VllmTurnSource(servers, Limits({}, 16, 4096))
        colors = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(8)]
        for _ in range(3):
            source.generate([IDS] * 8, [[one] for one in colors])
        sent = [
            [
                body["content_parts"][0]["uuid"]
                for path, body in server.calls
                if "max_tokens" in str(body) and "seed" in body["sampling_params"]
            ]
            for server in (fake, other)
        ]
        assert not set(sent[0]) & set(sent[1])
        assert all(sent)
        source.close()


# --- options and the check at the start ---


def rl(**more: object) -> RlRun:
    return RlRun(out="out", questions=("q",), **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"vllm": {"url": ()}}, "url under .vllm."),
        ({"vllm": {"url": ("localhost:8000",)}}, "http://HOST:PORT"),
        ({"vllm": {"url": ("http://x",), "update": "adapters"}}, "auto, weights, adapter"),
        ({"vllm": {"url": ("http://x",), "update": "adapter"}}, "lora_rank with update"),
        ({"vllm": {"url": ("http://x",), "concurrency": 0}}, "concurrency"),
        ({"vllm": {"url": ("http://x",), "wait_s": math.inf}}, "wait_s"),
        ({"vllm": {"url": ("http://x",), "max_logprob_difference": 0.0}}, "above 0"),
        ({"vllm": {"url": ("http://x",), "colocated_memory": 1.0}}, "below 1"),
        (
            {"vllm": {"url": ("http://x",)}, "trl": {"generation_kwargs": {"a": 1}}},
            "generation_kwargs",
        ),
        ({"vllm": {"url": ("http://x",)}, "trl": {"loss_type": "vespo"}}, "token_truncate"),
    ],
)
def test_invalid_options_fail_before_anything_is_loaded(more, message):
    with pytest.raises(UsageError, match=message):
        rl(**{**more, "vllm": VllmOptions(**more["vllm"])})


def test_a_resumed_run_may_name_other_servers(tmp_path):
    first, second = (
        RlRun(out=str(tmp_path), questions=("q",), vllm=VllmOptions(url=(url,)))
        for url in ("http://a", "http://b")
    )
    save_run_settings(first)
    args = SimpleNamespace(process_index=0)
    with training_folder(second, args):
        pass
    engine = dataclasses.replace(first, vllm=None)
    with pytest.raises(UsageError, match="vllm"), training_folder(engine, args):
        pass


def checked(fake: FakeVllm, **more: object):
    arguments = {
        "model": model_folder("tiny"),
        "dtype": "float32",
        "lora_rank": 0,
        "can_sleep": False,
    }
    options = VllmOptions(url=(fake.url,), **more.pop("options", {}))
    return check_servers(options, **(arguments | more))


def test_the_check_returns_what_the_servers_have_in_common(fake):
    fake.is_paused = True
    assert checked(fake) == ("float32", 4096, False)
    assert checked(fake, lora_rank=4) == ("float32", 4096, True)
    assert not checked(fake, lora_rank=4, options={"update": "weights"}).uses_adapter


def set_config(fake: FakeVllm, **values: object) -> None:
    config = fake.replies["/server_info"]["body"]["vllm_config"]
    config["model_config"] |= values


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (
            lambda f: f.replies["/version"]["body"].update(version="0.22.1"),
            {},
            "vLLM 0.30 or newer.*0.22.1",
        ),
        (
            lambda f: f.replies["/openapi.json"]["body"]["paths"].pop("/inference/v1/generate"),
            {},
            "--enable-scale-out",
        ),
        (
            lambda f: f.replies["/openapi.json"]["body"]["paths"].pop("/pause"),
            {},
            "VLLM_SERVER_DEV_MODE=1",
        ),
        (
            lambda f: f.replies["/openapi.json"]["body"]["components"]["schemas"].clear(),
            {},
            "content_parts",
        ),
        (lambda f: set_config(f, dtype="torch.bfloat16"), {}, "--dtype float32"),
        (lambda f: set_config(f, logprobs_mode="raw_logprobs"), {}, "--logprobs-mode"),
        (
            lambda f: f.replies["/server_info"]["body"]["vllm_config"].pop("lora_config"),
            {"lora_rank": 4, "options": {"update": "adapter"}},
            "--enable-lora",
        ),
        (lambda f: None, {"lora_rank": 64}, "--max-lora-rank 64"),
        (lambda f: None, {"can_sleep": True}, "--enable-sleep-mode"),
        (lambda f: f.replies["/version"].update(status=404), {}, "a vLLM server at.*start it"),
    ],
)
def test_an_unsuitable_server_is_one_error_with_the_fix(fake, change, more, message):
    change(fake)
    with pytest.raises(EndpointError, match=message) as caught:
        checked(fake, **more)
    assert "\n" not in str(caught.value)


def test_a_server_of_another_model_is_an_error(fake, tmp_path):
    config = json.loads((model_folder("tiny") / "config.json").read_text())
    config["text_config"]["hidden_size"] = 256
    (tmp_path / "config.json").write_text(json.dumps(config))
    set_config(fake, model=str(tmp_path))
    with pytest.raises(EndpointError, match=r"hidden_size 128 at.*with 256"):
        checked(fake)


def test_an_unreachable_server_is_one_line_of_the_command(run, tmp_path, monkeypatch):
    monkeypatch.setattr("pixel_reasoner.train.vllm.check._WAIT_S", 0.1)
    path = write_run(tmp_path, "http://127.0.0.1:9")
    started = time.monotonic()
    code, _, err = run("train", "rl", path)
    assert code == 2
    assert len([line for line in err.splitlines() if "expected" in line]) == 1
    assert "VLLM_SERVER_DEV_MODE=1 vllm serve" in err
    assert time.monotonic() - started < 30.0


def write_run(folder: Path, url: str, text: str = "", trl: str = "", vllm: str = "") -> Path:
    """Write a run of two questions with four rollouts each, and return its file."""
    path = folder / "run.toml"
    path.write_text(
        f'out = "out"\nquestions_per_sync = 2\ngroup_size = 4\nminibatch = 8\nrollouts_at_once = 8\nmax_turns = 3\n'
        f"max_new_tokens = 96\nsample_every = 0\n{text}\n"
        '[pixelworld]\nfamilies = ["attribute"]\ncount = 6\noverview_share = 0.0\n'
        f'[vllm]\nurl = "{url}"\n{vllm}\n'
        "[trl]\nlearning_rate = 1e-4\nwarmup_steps = 0\nmax_steps = 2\nmax_completion_length = 600\n"
        f'report_to = "none"\ndisable_tqdm = true\nsave_steps = 1\n{trl}\n'
    )
    return path


# --- vLLM on the CPU ---


def real(test):
    """Mark a test that needs vLLM."""
    for mark in (
        pytest.mark.skipif(not PYTHON.exists(), reason="no environment .venv-vllm: make vllm"),
        pytest.mark.medium,
        pytest.mark.extras,
    ):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    one = VllmProcess(log, (*TRAINING_FLAGS, *ADAPTER_FLAGS), TRAINING_ENVIRONMENT)
    try:
        one.start()
        yield one
    finally:
        one.kill()


def log_of(folder: Path) -> list[dict]:
    """Return the steps in the log of a run."""
    rows = map(json.loads, (folder / "out" / "log.jsonl").read_text().splitlines())
    return [row for row in rows if "loss" in row]


def assert_sampled_from_the_policy(rows: list[dict], tolerance: float = 1e-4) -> None:
    for row in rows:
        assert row["sampling/sampling_logp_difference/mean"] < tolerance
        assert row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-2)


@real
@pytest.mark.parametrize(
    ("text", "vllm_options"),
    [
        ("", ""),
        ("lora_rank = 4", ""),
        ("lora_rank = 4", 'update = "weights"'),
        ("train_vision = true", "colocated_memory = 0.5"),
    ],
    ids=["all weights", "adapter", "merged adapter", "vision too, server sleeps"],
)
def test_a_run_samples_from_the_policy_after_every_update(vllm, tmp_path, text, vllm_options):
    """The learning rate is so large that old weights would give other log-probabilities."""
    run = write_run(tmp_path, vllm.url, text, "learning_rate = 1e-2\n", vllm_options)
    run.write_text(run.read_text().replace("learning_rate = 1e-4\n", ""))
    train_rl(RlRun.read(run))
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert_sampled_from_the_policy(rows)
    assert not (tmp_path / "out" / "vllm-weights").exists()


@real
def test_a_difference_of_log_probabilities_above_the_limit_stops_the_run(vllm, run, tmp_path):
    path = write_run(tmp_path, vllm.url, vllm="max_logprob_difference = 1e-12")
    code, _, err = run("train", "rl", path)
    assert code == 2
    (line,) = [line for line in err.splitlines() if "max_logprob_difference" in line]
    assert "in step 1" in line
    assert not (tmp_path / "out" / "model").exists()


@real
def test_two_processes_send_their_own_requests_and_train_one_policy(vllm, tmp_path):
    run = write_run(tmp_path, vllm.url)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    done = subprocess.run(
        [*launch, "-m", "pixel_reasoner.cli", "train", "rl", str(run)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert_sampled_from_the_policy(rows)


@real
def test_asynchronous_rollouts_continue_with_the_weights_of_each_update(vllm, tmp_path):
    trl = 'save_strategy = "no"\n'
    run = write_run(tmp_path, vllm.url, "max_staleness = 1", trl)
    text = run.read_text().replace("save_steps = 1\n", "").replace("max_steps = 2", "max_steps = 4")
    run.write_text(text)
    train_rl(RlRun.read(run))
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert_sampled_from_the_policy(rows[:1])  # later ones have tokens of older policies
    assert {row["async/max_staleness"] for row in rows} <= {0.0, 1.0}
    assert sum(row["async/staleness"] for row in rows) > 0
    assert all(row["sampling/sampling_logp_difference/mean"] < 0.1 for row in rows)


@real
def test_a_server_without_the_routes_of_training_is_one_line(vllm, run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pixel_reasoner.train.vllm.client.VllmClient.schema", lambda self: {"paths": {}}
    )
    code, _, err = run("train", "rl", write_run(tmp_path, vllm.url))
    assert code == 2
    assert "--enable-scale-out" in err


@real
def test_a_killed_server_returns_and_the_run_finishes(vllm, tmp_path):
    """The server is killed while it generates, and starts with the weights of its command line. Last test with this server."""
    run = write_run(tmp_path, vllm.url, trl="temperature = 1.5\n")

    def kill_and_start() -> None:
        while vllm.metric("num_requests_running") == 0 or not log_of_or_empty():
            time.sleep(0.02)
        vllm.kill()
        vllm.start()

    def log_of_or_empty() -> list[dict]:
        return log_of(tmp_path) if (tmp_path / "out" / "log.jsonl").exists() else []

    thread = threading.Thread(target=kill_and_start, daemon=True)
    thread.start()
    train_rl(RlRun.read(run))
    thread.join(60)
    assert not thread.is_alive(), "the server was killed"
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    # At this temperature the suppressed placeholders have a share of the probability, which only the server knows.
    assert_sampled_from_the_policy(rows, 1e-3)


@real
@pytest.mark.slow
def test_an_old_output_layer_is_never_trained_with(tmp_path):
    """Without `tests/vllm_cpu/vllm_cpu_fixes.py`, vLLM keeps the old output layer on CPUs for which oneDNN packs the weights.

    There the check after an update ends the run. On others the server has the new weights.
    """
    environment = TRAINING_ENVIRONMENT | {"VLLM_PLUGINS": ""}
    server = VllmProcess(tmp_path / "vllm.log", TRAINING_FLAGS, environment)
    try:
        server.start()
        run = write_run(tmp_path, server.url)
        run.write_text(run.read_text().replace("1e-4", "1e-2"))
        try:
            train_rl(RlRun.read(run))
        except EndpointError as error:
            assert "log-probabilities of a fixed answer" in str(error)  # noqa: PT017
        else:
            assert_sampled_from_the_policy(log_of(tmp_path), 1e-3)
    finally:
        server.kill()
