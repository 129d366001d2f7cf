"""Commands on a Ray cluster of two nodes write the rows of a run in one process, also if a node is killed. Needs `ray,train`."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra `ray` has an environment of its own")
pytest.importorskip("trl", reason="training on Ray needs the extra `train`")

import ray
from ray.cluster_utils import Cluster

from clusters.ray_runs import different_rows
from pixel_reasoner.errors import EndpointError, InputError, PixelReasonerError, UsageError
from pixel_reasoner.integrations import ray_cluster, ray_pool
from pixel_reasoner.integrations.ray_cluster import RayOptions, complete_options
from pixel_reasoner.integrations.ray_model import RayModel
from pixel_reasoner.integrations.ray_pool import ActorPool, started
from pixel_reasoner.integrations.ray_synth import map_units_on_ray
from pixel_reasoner.integrations.ray_train import RunStatus, WorkerInfo, train_on_ray
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.rollout.strategies import ask_many_by_strategy
from pixel_reasoner.schema.media_url import allow_media_urls
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import StopReason
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.workflows.evaluate import EvalSpec, evaluate
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.run import SurveySpec, run_survey
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize
from pixel_reasoner.workflows.world import WorldSpec
from pixel_reasoner.world import render, scenes

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
STORE_BYTES = 80_000_000
TINY = ModelSpec("tiny", device="cpu")
red = partial(ScriptedModel, [r"It is red. \boxed{red}"])


class Watch:
    """Progress that calls a function once, after some rows."""

    def __init__(self, after: int, then: Callable[[], None]) -> None:
        self.after, self.then = after, then
        self.is_called = False

    def start(self, title: str, total: int | None) -> Watch:
        del total
        self.is_counting = title in ("asking", "traces")
        return self

    def __call__(self, completed: int, note: str = "") -> None:
        if self.is_counting and completed >= self.after and not self.is_called:
            self.is_called = True
            self.then()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    os.environ["RAY_AUTH_MODE"] = "disabled"  # sticks to the process: before the first connection
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    arguments = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@contextmanager
def second_node(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Add a node to the cluster, and yield a function that kills it."""
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    cluster.wait_for_nodes()
    left = [node]

    def kill() -> None:
        cluster.remove_node(left.pop(), allow_graceful=False)

    try:
        yield kill
    finally:
        if left:
            kill()


@pytest.fixture
def kill_node(cluster) -> Iterator[Callable[[], None]]:
    with second_node(cluster) as kill:
        yield kill


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Pictures and clips, in a folder."""
    folder = tmp_path_factory.mktemp("world")
    wanted = [*scenes("attribute", "validation", 70, 8), *scenes("relation", "validation", 70, 4)]
    for _ in render(wanted, folder):
        pass
    return folder


def eval_spec(out: Path, **more) -> EvalSpec:
    world = WorldSpec(family="all", split="validation", count=4)
    return EvalSpec(benchmark="pixelworld", out=out, model=TINY, world=world, **more)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    """Evaluation in this process."""
    out = tmp_path_factory.mktemp("eval") / "run"
    evaluate(eval_spec(out))
    return out


def question(id_: str, text: str = "Which colour?", media: tuple[MediaItem, ...] = ()) -> Question:
    return Question(id=id_, text=text, media=media)


def options(actors: int = 2, **more) -> RayOptions:
    return complete_options(RayOptions(address="auto", actors=actors, **more))


# --- the same rows ---


def test_a_node_killed_in_an_evaluation_loses_and_repeats_nothing(kill_node, evaluated, tmp_path):
    watch = Watch(4, kill_node)
    with RayModel(TINY, options(), batch_size=4) as model:
        model.pool.wait_for_actors(2)
        summary = evaluate(eval_spec(tmp_path / "run"), watch, model=model)
        assert model.pool.num_lost_actors >= 1
    assert watch.is_called
    assert summary["count"] == 20
    assert different_rows(evaluated, tmp_path / "run") == []


def test_an_interrupted_evaluation_on_ray_continues_without_it_and_the_reverse(
    cluster, evaluated, tmp_path
):
    there, back = eval_spec(tmp_path / "there"), eval_spec(tmp_path / "back")
    with RayModel(TINY, options(1), batch_size=4) as model:
        with pytest.raises(KeyboardInterrupt):
            evaluate(there, Watch(6, interrupt), model=model)
        with pytest.raises(KeyboardInterrupt):
            evaluate(back, Watch(6, interrupt))
        evaluate(back, model=model)
    evaluate(there)
    assert different_rows(evaluated, there.out) == []
    assert different_rows(evaluated, back.out) == []


def test_a_node_killed_in_a_synthesis_loses_and_repeats_nothing(kill_node, tmp_path):
    spec = SynthSpec(
        source="pixelworld", out=tmp_path / "here", families="attribute,video", count=60
    )
    synthesize(spec)
    watch = Watch(8, kill_node)
    there = SynthSpec(**{**vars(spec), "out": tmp_path / "there"})
    synthesize(there, watch, map_units=partial(map_units_on_ray, options=options()))
    assert watch.is_called
    assert different_rows(spec.out, there.out) == []
    files = sorted(path.relative_to(spec.out) for path in (spec.out / "media").rglob("*.*"))
    assert len(files) > 5
    for name in ["traces.jsonl", *files]:
        assert (spec.out / name).read_bytes() == (there.out / name).read_bytes()


def test_a_node_killed_in_a_survey_loses_and_repeats_nothing(kill_node, world, tmp_path):
    sampled = RolloutConfig(sampling=SamplingParams(temperature=0.7, max_new_tokens=64))
    here, there = (
        SurveySpec(
            questions=(SurveyQuestion(id="shape", text="Which shape is red?"),),
            media=(str(world),),
            out=tmp_path / name,
            config=sampled,
            samples=2,
            report_rows=0,
        )
        for name in ("here", "there")
    )
    run_survey(here, LocalModel("tiny", device="cpu"))
    watch = Watch(3, kill_node)
    with RayModel(TINY, options(), batch_size=4) as model:
        model.pool.wait_for_actors(2)
        run_survey(there, model, watch)
    assert watch.is_called
    assert (here.out / "rows.csv").read_bytes() == (there.out / "rows.csv").read_bytes()
    assert different_rows(here.out, there.out) == []


def test_strategies_and_plain_questions_use_all_actors(kill_node):
    sampled = RolloutConfig(sampling=SamplingParams(temperature=0.7))
    asked = [question(str(number)) for number in range(12)]
    with RayModel(red, options(), batch_size=2) as model:
        assert get_scheduler(model).num_copies == 2
        voted = list(ask_many_by_strategy("majority_vote", asked, model, sampled))
        assert {trace.notes for trace in voted} == {("majority vote: red 5",)}
        assert {trace.question.id for trace in ask_many(asked, model)} == set(map(str, range(12)))
        assert ask(asked[0], model).answer == "red"


def test_the_command_line_writes_the_same_rows(cluster, evaluated, tmp_path):
    command = [sys.executable, "-m", "pixel_reasoner.cli", "eval", "pixelworld", "--family", "all"]
    command += ["--split", "validation", "--count", "4", "--out", str(tmp_path / "run")]
    ended = subprocess.run(
        [*command, "--ray", cluster.address, "--ray-actors", "1", "--max-new-tokens", "1024"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 0, ended.stderr
    assert different_rows(evaluated, tmp_path / "run") == []


# --- questions that fail ---


def test_an_unusable_medium_is_one_failed_row(cluster, tmp_path):
    gone = MediaItem(kind="image", path=str(tmp_path / "gone.png"))
    with RayModel(red, options(1)) as model:
        traces = list(ask_many([question("a"), question("b", media=(gone,))], model))
    assert {(trace.question.id, trace.stop) for trace in traces} == {
        ("a", StopReason.ANSWERED),
        ("b", StopReason.FAILED),
    }
    assert "gone.png" in next(trace.error for trace in traces if trace.error)


def test_media_that_an_actor_cannot_read_end_the_run(cluster, world):
    picture = next(world.rglob("*.png"))
    with picture.open("rb") as file:
        os.dup2(file.fileno(), 900)  # a path that only exists in this process
    there = MediaItem(kind="image", path="/proc/self/fd/900")
    try:
        with (
            RayModel(red, options(1)) as model,
            pytest.raises(UsageError, match=r"which does not exist on .* storage that all nodes"),
        ):
            list(ask_many([question("a", media=(there,))], model))
    finally:
        os.close(900)


def test_access_to_media_is_restricted_in_actors_too(cluster, world):
    picture = MediaItem(kind="image", path=str(next(world.rglob("*.png"))))
    elsewhere = MediaItem(kind="image", path="s3://other/a.png")
    allowed = question("a", media=(picture.restricted([world]),))
    with allow_media_urls("s3://bucket/"), RayModel(red, options(1)) as model:
        asked = [
            allowed,
            question("b", media=(picture.restricted(["/nowhere"]),)),
            question("c", media=(elsewhere,)),
        ]
        traces = {trace.question.id: trace for trace in ask_many(asked, model)}
    assert traces["a"].answer == "red"
    assert "outside of these folders" in traces["b"].error
    assert "expected media in s3://bucket/" in traces["c"].error


class Crash(ScriptedModel):
    """Model that ends its process at one question."""

    def _reply(self, conversation) -> str:
        if "crash" in str(conversation):
            os._exit(1)
        return super()._reply(conversation)


def test_a_question_that_ends_its_actors_fails_alone(cluster, monkeypatch):
    monkeypatch.setattr(ray_pool, "MAX_LOST", 1)
    asked = [question("bad", "crash"), *(question(str(number)) for number in range(4))]
    with RayModel(partial(Crash, [r"\boxed{red}"]), options(1), batch_size=1) as model:
        traces = {trace.question.id: trace for trace in ask_many(asked, model)}
    assert len(traces) == 5
    assert traces.pop("bad").error.startswith("expected an actor that survives the question")
    assert {trace.answer for trace in traces.values()} == {"red"}


def test_requests_that_need_this_process_are_refused(cluster):
    with RayModel(red, options(1)) as model:
        handle = get_scheduler(model).submit(RolloutRequest(question=question("a"), keep=True))
        assert handle.result().stop is StopReason.FAILED
        assert isinstance(handle.error, UsageError)
        cancelled = get_scheduler(model).submit(RolloutRequest(question=question("b")))
        cancelled.cancel()
        assert cancelled.result().stop is StopReason.CANCELLED


# --- errors of the cluster ---


def test_a_model_that_cannot_be_loaded_is_one_error(cluster, world):
    with pytest.raises(PixelReasonerError, match="expected a model folder"):
        RayModel(ModelSpec(str(world), dialect="compact"), options(1))


class Other:
    """Actor of a node with other packages."""

    def start(self):
        return started()._replace(versions={"pillow": "1.0"}, node="old-node")

    def run(self, key, payload):
        return payload


class Breaks:
    """Actor that cannot start."""

    def start(self):
        os._exit(1)


def pool_of(actor: type) -> ActorPool:
    return ActorPool(
        lambda: ray.remote(actor).options(num_cpus=0).remote(), options(1), per_actor=1
    )


def test_nodes_with_other_versions_are_named(cluster):
    with pytest.raises(UsageError, match=r"pillow .* and 1.0 on old-node"):
        pool_of(Other).wait_for_actors()


def test_actors_that_cannot_start_end_the_run(cluster, monkeypatch):
    monkeypatch.setattr(ray_pool, "MAX_FAILED_STARTS", 1)
    with pytest.raises(EndpointError, match="lost before, 2 times"):
        pool_of(Breaks).wait_for_actors()


def test_an_actor_larger_than_every_node_is_refused(cluster):
    with pytest.raises(UsageError, match="a node with 0 CPUs and 3 GPUs"):
        options(1, gpus=3)


def refusal(address: str, **environment: str) -> str:
    """Return the only line that a command with `--ray` prints before it ends with exit code 2."""
    command = [sys.executable, "-m", "pixel_reasoner.cli", "synth", "pixelworld", "--count", "2"]
    started_at = time.monotonic()
    ended = subprocess.run(
        [*command, "--out", "/nowhere/run", "--ray", address],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    assert ended.returncode == 2, ended.stderr
    assert time.monotonic() - started_at < 30
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("no.such.host.invalid:6379", "--ray no.such.host.invalid:6379"),
        ("ray://127.0.0.1:10001", "ray job submit"),
        ("head", "HOST:PORT"),
    ],
)
def test_a_wrong_address_is_one_line(address, reason):
    with pytest.raises(UsageError, match=reason):
        ray_cluster._check_address(address)


def test_a_server_that_is_no_cluster_is_named(monkeypatch):
    monkeypatch.setattr(ray_cluster, "HEALTH_TIMEOUT_S", 4.0)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(UsageError, match="no answer of one within 4 s"):
            ray_cluster._check_health(f"127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()


def test_a_cluster_with_another_version_of_ray_is_one_line(cluster):
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    key, space = b"CLUSTER_METADATA", b"cluster"
    before = _internal_kv_get(key, namespace=space)
    metadata = json.loads(before)
    changed = {**metadata, "ray_version": "2.1.0", "python_version": "3.9.1"}
    _internal_kv_put(key, json.dumps(changed).encode(), namespace=space)
    try:
        line = refusal(cluster.address)
    finally:
        _internal_kv_put(key, before, namespace=space)
    assert "expected the Ray and Python of the cluster" in line
    assert "2.1.0" in line
    assert "3.9.1" in line


def test_too_little_shared_memory_is_one_line(monkeypatch):
    usage = shutil.disk_usage("/dev/shm")._replace(free=16_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UsageError, match="100 MB of shared memory for Ray; got 16 MB"):
        ray_cluster._check_shared_memory()


def test_options_of_a_cluster_need_an_address():
    command = [sys.executable, "-m", "pixel_reasoner.cli", "synth", "pixelworld"]
    ended = subprocess.run(
        [*command, "--out", "/nowhere/run", "--ray-actors", "2"], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "--ray-actors, which has none without --ray" in ended.stderr


# --- training ---

SFT = """
traces = ["{traces}"]
out = "{out}"
[trl]
learning_rate = 1e-3
per_device_train_batch_size = 1
gradient_accumulation_steps = 1
max_steps = 4
save_steps = 2
report_to = "none"
"""


def logged(out: Path) -> list[tuple[float, float]]:
    rows = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [(row["loss"], row["grad_norm"]) for row in rows if "loss" in row]


def test_a_worker_with_other_files_or_versions_is_named():
    here = WorkerInfo(-1, "here", {"torch": "2.14.1"}, has_folder=True)
    for worker, reason in (
        (here._replace(node="there", has_folder=False), "/runs/a, which does not exist on there"),
        (here._replace(node="there", versions={"torch": "2.9.0"}), "2.14.1 on here, and 2.9.0 on"),
    ):
        status = RunStatus(here, "/runs/a")
        assert status.join(here) is None
        assert reason in str(status.join(worker))
        assert status.result() == (status.join(here), True)  # all others end with the same error


def test_more_workers_than_the_cluster_can_hold_are_refused(cluster, tmp_path):
    run = SftRun(traces=(str(tmp_path),), out=str(tmp_path / "out"))
    with pytest.raises(UsageError, match="nodes for 9 workers with 1 CPUs each; got room for 1"):
        train_on_ray(run, options(9))
    with pytest.raises(InputError, match="which does not exist"):
        train_on_ray(dataclasses.replace(run, traces=("/nowhere",)), options(1))
    with pytest.raises(UsageError, match=r"did you mean learning_rate\?"):
        train_on_ray(dataclasses.replace(run, trl={"learning_rat": 1.0}), options(1))
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_the_settings_is_one_error_of_all_workers(cluster, tmp_path):
    synthesize(SynthSpec(source="pixelworld", out=tmp_path / "synth", count=2))
    run = SftRun(
        traces=(str(tmp_path / "synth"),),
        out=str(tmp_path / "out"),
        batch_size=4,
        trl={"per_device_train_batch_size": 3},
    )
    with pytest.raises(UsageError, match="batch_size as a multiple of 3 traces x 1 processes"):
        train_on_ray(run, options(1))
    assert not (tmp_path / "out").exists()


def test_two_workers_of_ray_train_have_the_losses_of_torchrun(kill_node, cluster, tmp_path):
    spec = SynthSpec(source="pixelworld", out=tmp_path / "synth", families="attribute", count=8)
    synthesize(spec)
    for name in ("ray", "torchrun"):
        text = SFT.format(traces=spec.out, out=tmp_path / name)
        (tmp_path / f"{name}.toml").write_text(text)
    run = ["pixel_reasoner.cli", "train", "sft"]
    address = ["--ray", cluster.address, "--ray-workers", "2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", *run]
    for command in (
        [sys.executable, "-m", *run, str(tmp_path / "ray.toml"), *address],
        [*torchrun, str(tmp_path / "torchrun.toml")],
    ):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert ended.returncode == 0, ended.stderr
    assert len(logged(tmp_path / "ray")) == 4
    assert logged(tmp_path / "ray") == logged(tmp_path / "torchrun")
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("ray", "torchrun")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
