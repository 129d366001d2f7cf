"""vLLM servers of a run and the weights that they must have: loading, verification, and recovery of a restarted server.

A restarted server has the weights of its command line. Every reply contains the name of the weights that generated it (or the request
names the adapter), so a reply of other weights is never used: the current weights are loaded again from their folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock

from pixel_reasoner.errors import EndpointError
from pixel_reasoner.train.vllm.client import (
    Generation,
    Prompt,
    ServerDown,
    VllmClient,
    retry,
)
from pixel_reasoner.train.vllm.options import VllmOptions

T = TypeVar("T")


class WeightVersion(NamedTuple):
    """Weights in a folder, and what they compute for the probe."""

    name: str
    """unique name"""
    folder: str
    """model folder, or folder of an adapter"""
    is_adapter: bool
    is_merged: bool
    """whether only some weights change: the layers of a merged LoRA"""
    probe: Prompt
    """prompt with a picture, followed by a fixed answer"""
    logprobs: list[float]
    """log-probabilities of the answer, computed by the trainer"""
    tolerance: float
    """maximum mean difference between these and the log-probabilities of a server"""


class Interrupted(Exception):
    """The request was cancelled while its server did not answer."""


class VllmServers:
    """Servers of a run. Thread-safe. Every training process has one object.

    Args:
        options: addresses and limits.
        image_token: placeholder token of a visual token.
        folder: folder of published weights, on the same path for all servers and processes.
    """

    def __init__(self, options: VllmOptions, image_token: int, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.clients = [
            VllmClient(url, image_token, options.request_timeout_s) for url in options.servers
        ]
        self.current: WeightVersion | None = None
        """weights that every server must have"""
        self.num_recovered = 0
        """number of times that a server had other weights than the current ones, for example after a restart"""
        self._verified: dict[VllmClient, tuple[WeightVersion, dict[str, str]]] = {}
        """last verified weights of a server and their checksums"""

    def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            client.close()

    def load(self, version: WeightVersion) -> None:
        """Load new weights into all servers and verify them.

        Raises:
            EndpointError: a server does not answer, or computes other log-probabilities than the trained model.
        """
        self.current = version
        for client in self.clients:
            self.retry(client, partial(self._load_once, client))

    def generate(
        self,
        client: VllmClient,
        prompt: Prompt,
        sampling: dict[str, Any],
        request_id: str,
        is_cancelled: Callable[[], bool],
    ) -> Generation:
        """Return a generation with the current weights. Waits for a server that does not answer, and restores its weights.

        Raises:
            Interrupted: the request was cancelled while the server did not answer.
            EndpointError: the server does not answer within `wait_s` or rejects the request.
        """
        version = self.current
        assert version is not None, "weights are loaded before anything is generated"
        adapter = version.name if version.is_adapter else ""

        def send() -> Generation:
            if is_cancelled():
                raise Interrupted
            if is_suspect[0]:
                self._restore(client)
            is_suspect[0] = True  # after any failure the server may have been restarted
            found = self._send(client, prompt, sampling, adapter, request_id)
            if found.is_aborted and not is_cancelled():
                raise ServerDown("the request was aborted")
            if not adapter and found.versions - {version.name}:
                raise ServerDown("it has other weights")
            return found

        is_suspect = [False]
        return self.retry(client, send)

    def _send(
        self,
        client: VllmClient,
        prompt: Prompt,
        sampling: dict[str, Any],
        adapter: str,
        request_id: str,
    ) -> Generation:
        try:
            return client.generate(prompt, sampling, adapter=adapter, request_id=request_id)
        except EndpointError as error:
            if adapter and not self._has_current(client):
                raise ServerDown("it has lost the adapter") from error
            raise

    def _restore(self, client: VllmClient) -> None:
        """Load the current weights into a server that has others. One process at a time."""
        assert self.current is not None
        if self._has_current(client):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            if not self._has_current(client):
                self._load_once(client)
                self.num_recovered += 1

    def _has_current(self, client: VllmClient) -> bool:
        assert self.current is not None
        if self.current.is_adapter:
            return self.current.name in client.adapters()
        return client.version() == self.current.name

    def _load_once(self, client: VllmClient) -> None:
        version = self.current
        assert version is not None
        previous = self._verified.get(client)
        if version.is_adapter:
            if version.name not in client.adapters():
                client.load_adapter(version.name, version.folder)
            verify(client, version)
            if previous is not None and previous[0].name != version.name:
                client.unload_adapter(previous[0].name)
            self._verified[client] = version, {}
            return
        client.reload(version.folder)
        checksums = client.checksums()
        if previous is not None:
            _check_changed(client, previous[0], version, is_same=previous[1] == checksums)
        verify(client, version)
        client.set_version(version.name)  # last, so that a failed update is repeated
        self._verified[client] = version, checksums

    def retry(self, client: VllmClient, send: Callable[[], T]) -> T:
        """Return what `send` returns; call it again while the server does not answer, for at most `wait_s`."""
        wait_s = self.options.wait_s
        return retry(send, url=client.url, wait_s=wait_s, sleep=time.sleep, clock=time.monotonic)

    def sleep(self) -> None:
        """Free the memory of the GPUs until `wake_up`."""
        for client in self.clients:
            self.retry(client, client.sleep)

    def wake_up(self) -> None:
        """Undo `sleep`."""
        for client in self.clients:
            if self.retry(client, client.is_sleeping):  # a restarted server is awake
                self.retry(client, client.wake_up)


def verify(client: VllmClient, version: WeightVersion) -> float:
    """Return the mean difference between the log-probabilities of a server and those of the trainer for the probe.

    Raises:
        EndpointError: it is larger than the tolerance.
    """
    adapter = version.name if version.is_adapter else ""
    found = client.prompt_logprobs(version.probe, len(version.logprobs), adapter)
    differences = [abs(a - b) for a, b in zip(found, version.logprobs, strict=True)]
    mean = sum(differences) / len(differences)
    if mean <= version.tolerance:  # NaN is not
        return mean
    raise EndpointError(
        expected=f"the weights of the trained model in {client.url} after an update: log-probabilities of a fixed answer "
        f"within {version.tolerance:g} of the trainer's",
        got=f"a mean difference of {mean:.4g}, at most {max(differences):.4g}",
        fix="serve the same model with the same dtype; vLLM on a CPU needs tests/vllm_cpu on PYTHONPATH (docs/rl.md)",
    )


def _check_changed(
    client: VllmClient, previous: WeightVersion, version: WeightVersion, *, is_same: bool
) -> None:
    """Raise an error if checksums show that new weights were not loaded.

    Not for a merged LoRA: the CPU build has no checksums of the layers that it changes.
    """
    if is_same and previous.logprobs != version.logprobs and not version.is_merged:
        raise EndpointError(
            expected=f"other weights in {client.url} after an update",
            got="the same checksums as before",
            fix="check that the server reads the folder of weights_dir under the same path",
        )
