"""vLLM server on the CPU with the bundled model, for tests and benchmarks. `make vllm` installs vLLM in a separate environment."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx2

from pixel_reasoner.models.folder import model_folder

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
START_TIMEOUT_S = 600.0
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT / "tests" / "vllm_cpu"),
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; by default most of the memory
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",  # the first request would wait 18 s for compiled functions
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # no separate worker process, which imports everything again
    "OMP_NUM_THREADS": "1",  # more would wait for each other while other processes use the cores
}
TRAINING_ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
TRAINING_FLAGS = ("--enable-scale-out", "--logprobs-mode", "processed_logprobs")
ADAPTER_FLAGS = ("--enable-lora", "--max-loras", "2", "--max-lora-rank", "8")
OPTIONS = {
    "--dtype": "float32",
    "--max-model-len": "4096",
    "--max-num-seqs": "8",
    "--max-num-batched-tokens": "4096",
    "--mm-processor-cache-gb": "0.1",
    "--limit-mm-per-prompt": json.dumps({"image": 16, "video": 0}),
}


class VllmProcess:
    """Process of a vLLM server.

    Args:
        log: file of its output.
        flags: further flags.
        environment: further variables.
        options: options that replace those of `OPTIONS`.
    """

    model = model_folder("tiny")

    def __init__(
        self,
        log: Path,
        flags: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.log, self.flags = log, flags
        self.environment = ENVIRONMENT | (environment or {})
        self.options = OPTIONS | (options or {})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start, and wait until requests are answered."""
        # The command `vllm` of vllm-cpu 0.32 ends with PackageNotFoundError: it looks for a package called `vllm`.
        command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", self.model]
        command += ["--host", "127.0.0.1", "--port", self.port]
        command += ["--enforce-eager", "--enable-prompt-tokens-details", *self.flags]
        command += [word for option in self.options.items() for word in option]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
                start_new_session=True,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until requests are answered."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_healthy():
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-5000:]
            assert time.monotonic() < deadline, self.log.read_text()[-5000:]
            time.sleep(0.5)

    def is_healthy(self) -> bool:
        """Return whether requests are answered."""
        try:
            return httpx2.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """Kill all processes of the server."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)

    def metric(self, name: str, labels: str = "") -> float:
        """Return the sum of a metric over all lines with these labels."""
        text = httpx2.get(f"{self.url}/metrics", timeout=10).text
        lines = re.findall(rf"^vllm:{name}\{{([^}}]*)\}} (\S+)$", text, re.MULTILINE)
        return sum(float(value) for found, value in lines if labels in found)
