"""Training runs on a Ray cluster by Ray Train v2: the training functions of `torchrun`, in its workers. Extra: `ray,local,train`.

    with connected(RayOptions(address="auto", actors=2)) as options:
        train_on_ray(SftRun.read(Path("run.toml")), options)

Ray Train opens the process group. After a failure of a worker or node all workers start again and resume from the newest
complete checkpoint of the run, so Ray's own checkpoints are not used. Traces, model and the folder of the run are on storage
that all nodes share. A user's mistake in a worker ends the run with that error, once: that is why this module counts failures,
and not Ray's `FailureConfig`, which would start the workers again first.
"""

from __future__ import annotations

import json
import platform
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from pixel_reasoner.errors import (
    EndpointError,
    InputError,
    PixelReasonerError,
    UsageError,
    one_line,
    require_extra,
)
from pixel_reasoner.files import cannot_write
from pixel_reasoner.integrations.ray_cluster import RayOptions, num_places
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.reports.training_log import LOG
from pixel_reasoner.rollout.state import versions
from pixel_reasoner.runs.lock import STORE
from pixel_reasoner.schema.media_url import allowed_media_urls, set_media_urls
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.training import train_rl, train_sft
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter

MAX_FAILURES = 3
"""failures of workers or nodes after which a run ends"""
_LOG_INTERVAL_S = 1.0


class WorkerInfo(NamedTuple):
    """What a worker reports when it starts."""

    rank: int
    node: str
    versions: dict[str, str]
    has_folder: bool
    """whether it sees the folder of the run"""


class RunStatus:
    """Actor on the node of the command that holds the first error of a run."""

    def __init__(self, here: WorkerInfo, out: str) -> None:
        self._here, self._out = here, out
        self._error: PixelReasonerError | None = None
        self._is_joined = False

    def join(self, worker: WorkerInfo) -> PixelReasonerError | None:
        """Register a worker. Returns the error of the run, if it has one."""
        self._is_joined = True
        if self._error is None:
            self._error = _problem(self._here, worker, self._out)
        return self._error

    def fail(self, error: PixelReasonerError) -> None:
        """Set the error of the run. The first one counts."""
        self._error = self._error or error

    def result(self) -> tuple[PixelReasonerError | None, bool]:
        """Return the error of the run, and whether a worker started since the last call."""
        is_joined, self._is_joined = self._is_joined, False
        return self._error, is_joined


def train_on_ray(
    run: SftRun | RlRun,
    options: RayOptions,
    *,
    max_failures: int = MAX_FAILURES,
    progress: ProgressReporter | None = None,
) -> Path:
    """Train on a cluster, or resume, and return the folder of the model.

    Args:
        run: settings.
        options: of a connected cluster; `actors` is the number of workers.
        max_failures: failures of workers or nodes after which the run ends.
        progress: receives the number of steps.

    Raises:
        PixelReasonerError: errors of `train_sft` and `train_rl`.
        UsageError: nodes with other versions, or without the folder of the run.
        EndpointError: workers failed too often.
    """
    with require_extra("ray", "train on a Ray cluster"):
        import ray
        import ray.train.torch

        from pixel_reasoner.train.trl_config import check_trl_options
    _check_inputs(run)
    check_trl_options(run)
    _check_room(options)
    out = Path(run.out).absolute()
    with _temporary_storage(out) as storage, _followed_log(out, progress or NoProgress()):
        status = _status_actor(ray, out)
        for number in count():
            failure = _fit(run, options, status, storage / str(number))
            error, is_joined = ray.get(status.result.remote())
            if error is not None:
                raise error
            if failure is None:
                return out / "model"
            # A failure before any worker has ever started would come again.
            if number == max_failures or (not number and not is_joined):
                raise _failed(failure, number + 1)
    raise AssertionError("the last failure raises")


def _check_inputs(run: SftRun | RlRun) -> None:
    """Raise an error for files that do not exist, before workers start."""
    for source in run.traces if isinstance(run, SftRun) else run.questions:
        if not Path(source).exists():
            raise InputError(
                expected="files or folders of traces or questions",
                got=f"{source}, which does not exist",
                fix="correct the path in the TOML file; paths are relative to it",
            )
    local_model(run.model)


def _check_room(options: RayOptions) -> None:
    """Raise an error for more workers than the cluster can hold. Ray Train would wait for ever."""
    wanted = _resources(options)
    places = num_places(wanted["CPU"], wanted.get("GPU", 0.0))
    if places < options.num_actors:
        each = " and ".join(f"{number:g} {name}s" for name, number in wanted.items())
        raise UsageError(
            expected=f"nodes for {options.num_actors} workers with {each} each",
            got=f"room for {places}",
            fix="lower --ray-workers, --ray-cpus or --ray-gpus, or start more nodes first",
        )


def _fit(run: SftRun | RlRun, options: RayOptions, status: Any, storage: Path) -> Exception | None:
    """Start all workers and wait for their end. Returns the failure of a worker or node."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    trainer = TorchTrainer(
        _train,
        train_loop_config={
            "run": run,
            "status": status,
            "storage": str(storage.parent),
            "media_urls": allowed_media_urls(),
        },
        scaling_config=ScalingConfig(
            num_workers=options.num_actors,
            use_gpu=bool(options.gpus),
            resources_per_worker=_resources(options),
            placement_strategy="SPREAD",
        ),
        run_config=RunConfig(
            name="run",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return error
    return None


def _resources(options: RayOptions) -> dict[str, float]:
    gpus = {"GPU": options.gpus} if options.gpus else {}
    return {"CPU": options.cpus or 1.0, **gpus}


def _train(config: dict[str, Any]) -> None:
    """Train in one worker."""
    import ray
    from ray.train import get_context

    run, status = config["run"], config["status"]
    set_media_urls(config["media_urls"])
    rank = get_context().get_world_rank()
    worker = WorkerInfo(rank, platform.node(), versions(), Path(config["storage"]).is_dir())
    error = ray.get(status.join.remote(worker))
    if error is not None:
        raise error
    try:
        if isinstance(run, SftRun):
            train_sft(run)
        else:
            train_rl(run)
    except PixelReasonerError as error:
        ray.get(status.fail.remote(error))
        raise  # ends the other workers, which may wait for this one


def _status_actor(ray: Any, out: Path) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(node_id=here, soft=False)
    remote = ray.remote(RunStatus).options(num_cpus=0, scheduling_strategy=strategy)
    info = WorkerInfo(-1, platform.node(), versions(), has_folder=True)
    return remote.remote(info, str(out))


def _problem(here: WorkerInfo, worker: WorkerInfo, out: str) -> UsageError | None:
    """Return why a worker cannot take part, or None."""
    if not worker.has_folder:
        return UsageError(
            expected="a folder of the run on storage that all nodes share",
            got=f"{out}, which does not exist on {worker.node}",
            fix="set `out` to a path on shared storage, at which all nodes see the same files",
        )
    for name in here.versions.keys() & worker.versions.keys():
        if here.versions[name] != worker.versions[name]:
            return UsageError(
                expected="the same versions of all packages on every node",
                got=f"{name} {here.versions[name]} on {here.node}, and {worker.versions[name]} on {worker.node}",
                fix="install the same versions, for example with constraints.txt",
            )
    return None


def _failed(error: Exception, num_failures: int) -> EndpointError:
    failures = getattr(error, "worker_failures", {})
    first = next(iter(failures.values()), error)
    lines = [line for line in str(first).strip().splitlines() if line.strip()]
    return EndpointError(
        expected="workers that train to the end",
        got=f"{num_failures} failures, the last: {one_line(ValueError(lines[-1] if lines else type(first).__name__))}",
        fix="see the logs of the workers (`ray logs`), and run the same command again: it resumes from the last checkpoint",
    )


@contextmanager
def _temporary_storage(out: Path) -> Iterator[Path]:
    """Yield a new folder for the state of Ray Train, and remove it at the end."""
    is_new = not out.exists()
    storage = out / STORE / f"ray-{uuid4().hex[:12]}"
    try:
        storage.mkdir(parents=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        yield storage
    finally:
        shutil.rmtree(storage, ignore_errors=True)
        with suppress(OSError):
            storage.parent.rmdir()
            if is_new:
                out.rmdir()


@contextmanager
def _followed_log(out: Path, progress: ProgressReporter) -> Iterator[None]:
    """Report the steps of a run while its workers write its log."""
    is_over = threading.Event()
    thread = threading.Thread(target=_follow, args=(out / LOG, progress, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _follow(path: Path, progress: ProgressReporter, is_over: threading.Event) -> None:
    update, shown = None, _last_step(path)[0]
    while not is_over.wait(_LOG_INTERVAL_S):
        step, note = _last_step(path)
        if step > shown:
            update = update or progress.start("steps", None)
            update(step, note)
            shown = step


def _last_step(path: Path) -> tuple[int, str]:
    """Return the last step in a log, and its loss; -1 without any."""
    with suppress(OSError, ValueError, KeyError, IndexError):
        row = json.loads(path.read_bytes().splitlines()[-1])
        return int(row["step"]), f"loss {row['loss']:.4g}" if "loss" in row else ""
    return -1, ""
