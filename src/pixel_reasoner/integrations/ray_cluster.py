"""Connection to a Ray cluster, with errors of one line. Extra: `ray`.

    with connected(RayOptions(address="10.0.0.1:6379", actors=4, gpus=1)) as options:
        ...

Ray itself retries a wrong address for minutes and writes to the terminal, so the address is checked by another process with
a timeout first. Not supported: Ray Client (`ray://`); the command runs on a node of the cluster.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import EndpointError, UsageError, one_line, require_extra
from pixel_reasoner.schema.media_url import media_exists

LOCAL, AUTO = "local", "auto"
CONNECT_TIMEOUT_S = 5.0
HEALTH_TIMEOUT_S = 20.0
_HEAD_TRIES, _HEAD_WAIT_S = 5, 2.0
"""a head with external storage may restart"""
MAX_PLACES = 1_000
"""actors per node without reservations"""
OBJECT_STORE_BYTES = 100_000_000
"""of a local cluster: questions and traces are small, and Ray would take 30 % of the memory"""
SHARED_MEMORY = Path("/dev/shm")
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray warns about its future default otherwise
}


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Which cluster, and what each actor reserves.

    Raises:
        UsageError: a number out of range.

    >>> RayOptions(address="auto", actors=0)
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected --ray-actors of 1 or more; got 0. Fix: leave it out for one per GPU or node
    """

    address: str
    """`HOST:PORT` of the head, `auto` for the cluster of this machine, `local` for a new one on this machine"""
    actors: int | None = None
    """copies of the model; None: one per GPU, or one per node without GPUs"""
    cpus: float = 0.0
    """CPUs that Ray reserves per actor, which is also its number of torch threads (at least 1)"""
    gpus: float | None = None
    """GPUs per actor; None: 1 if the cluster has any"""

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise UsageError(
                expected="--ray-actors of 1 or more",
                got=str(self.actors),
                fix="leave it out for one per GPU or node",
            )
        for name, value in (("--ray-cpus", self.cpus), ("--ray-gpus", self.gpus or 0.0)):
            if value < 0:
                raise UsageError(expected=f"{name} of 0 or more", got=f"{value:g}", fix="give one")

    @property
    def num_actors(self) -> int:
        """Number of actors, after `connected` has filled it in."""
        assert self.actors is not None, "options of a connected cluster"
        return self.actors

    @property
    def actor_options(self) -> dict[str, Any]:
        """Options of Ray for each actor. Actors are spread over nodes, and this package restarts lost ones."""
        reserved = {"num_cpus": self.cpus, "num_gpus": self.gpus or 0.0}
        return {**reserved, "scheduling_strategy": "SPREAD", "max_restarts": 0}


@contextmanager
def connected(options: RayOptions) -> Iterator[RayOptions]:
    """Connect to a cluster, and yield the options with all numbers filled in. A connection that exists is used and kept open.

    Raises:
        UsageError: Ray is not installed, the address is unusable, the cluster has another version of Ray or Python, or no
            node can hold an actor.
        EndpointError: the cluster does not answer.
    """
    with _environment(options.address), _signal_handlers():
        with require_extra("ray", "run on a Ray cluster"):
            import ray
        if ray.is_initialized():
            yield complete_options(options)
            return
        _connect(ray, options.address)
        try:
            yield complete_options(options)
        finally:
            ray.shutdown()


@contextmanager
def _environment(address: str) -> Iterator[None]:
    """Set the variables of Ray that are not set, and restore all of Ray's at the end."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # A secret of this process instead of a token file in the home folder. Ray reads it when it is imported.
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _signal_handlers() -> Iterator[None]:
    """Restore the handler of SIGTERM at the end; `_init` restores it after Ray has replaced it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def complete_options(options: RayOptions) -> RayOptions:
    """Return options with the numbers of the connected cluster filled in.

    Raises:
        UsageError: no node can hold an actor.
    """
    nodes = alive_nodes()
    num_gpus = sum(one.get("GPU", 0.0) for one in nodes)
    gpus = float(num_gpus > 0) if options.gpus is None else options.gpus
    count = int(num_gpus // gpus) if gpus else len(nodes)
    complete = replace(options, actors=options.actors or max(1, count), gpus=gpus)
    if not can_hold_actor(complete):
        raise UsageError(
            expected=f"a node with {complete.cpus:g} CPUs and {gpus:g} GPUs for an actor",
            got=", ".join(f"{_count(one, 'CPU')} and {_count(one, 'GPU')}" for one in nodes),
            fix="lower --ray-cpus or --ray-gpus, or start larger nodes first",
        )
    return complete


def can_hold_actor(options: RayOptions) -> bool:
    """Return whether any node of the connected cluster is large enough for an actor."""
    return any(_num_places(node, options.cpus, options.gpus or 0.0) for node in alive_nodes())


def num_places(cpus: float, gpus: float) -> int:
    """Return the number of actors that the connected cluster can hold at the same time, if it is idle."""
    return sum(_num_places(node, cpus, gpus) for node in alive_nodes())


def _num_places(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Return the number of actors that a node can hold; a large number without reservations."""
    wanted = {"CPU": cpus, "GPU": gpus}
    counts = [int(node.get(name, 0.0) / count) for name, count in wanted.items() if count]
    return min(counts, default=MAX_PLACES)


def alive_nodes() -> list[dict[str, float]]:
    """Return the resources of the nodes of the connected cluster."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def is_missing(path: str) -> bool:
    """Return whether a local file or folder does not exist on this machine."""
    return not media_exists(path)


def check_head() -> None:
    """Raise an error if the head of the connected cluster is gone. Ray itself waits, and then ends the process.

    Raises:
        EndpointError: nothing listens at its address.
    """
    import ray

    address = ray.get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    for number in range(_HEAD_TRIES):
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            if number + 1 < _HEAD_TRIES:
                time.sleep(_HEAD_WAIT_S)
                continue
            raise EndpointError(
                expected=f"the head of the Ray cluster at {address}",
                got=one_line(error),
                fix="start the cluster, and run the same command again; finished work is kept",
            ) from None
        return


def _count(node: dict[str, float], name: str) -> str:
    return f"{node.get(name, 0.0):g} {name}s"


# --- connecting ---


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None}
    if address == LOCAL:
        _check_shared_memory()
        local = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        _init(ray, "local", {**quiet, **local})
        return
    _check_address(address)
    _check_health(address)
    _init(ray, address, {**quiet, "namespace": None})


def _init(ray: Any, address: str, options: dict[str, Any]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's would end the process
    except (Exception, SystemExit) as error:  # noqa: BLE001 - Ray raises any type
        text = one_line(error)
        if "ersion mismatch" in text:
            raise UsageError(
                expected="the Ray and Python of the cluster",
                got=text.partition("ersion mismatch")[2].lstrip(": ") or text,
                fix="install the same versions here and on all nodes",
            ) from None
        raise EndpointError(
            expected=f"a Ray cluster at {address}", got=text, fix="see `ray status` on its head"
        ) from None


def _check_address(address: str) -> None:
    """Raise an error for an address that nothing listens at."""
    if address == AUTO:
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and "/" not in host):
        raise UsageError(
            expected="--ray HOST:PORT of the head, auto, or local",
            got=address,
            fix="run the command on a node of the cluster, for example by `ray job submit`, with --ray auto"
            if address.startswith("ray://")
            else "`ray start --head` prints the address",
        )
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            expected="the address of the head of a Ray cluster",
            got=f"--ray {address}: {one_line(error)}",
            fix="`ray start --head` prints it; its port is 6379 by default",
        ) from error


def _check_health(address: str) -> None:
    """Raise an error if no Ray cluster answers at an address, from another process: this one could not stop waiting."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--address", address],
            capture_output=True,
            text=True,
            timeout=HEALTH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer of one within {HEALTH_TIMEOUT_S:g} s"
    else:
        if done.returncode == 0:
            return
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = one_line(ValueError(lines[-1] if lines else f"exit code {done.returncode}"))
    where = "a running Ray cluster on this machine" if address == AUTO else "a Ray cluster"
    raise UsageError(
        expected=where,
        got=f"--ray {address}: {reason}",
        fix="start one with `ray start --head`, give the address that it prints, and set RAY_AUTH_MODE as there",
    )


def _check_shared_memory() -> None:
    """Raise an error if the object store does not fit into shared memory. Ray would use the disk or fail."""
    if not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < OBJECT_STORE_BYTES:
        raise UsageError(
            expected=f"{OBJECT_STORE_BYTES // 10**6} MB of shared memory for Ray",
            got=f"{free / 10**6:.0f} MB in {SHARED_MEMORY}",
            fix="start the container with --shm-size 256m (Kubernetes: an emptyDir with medium Memory)",
        )
