"""Local S3 emulator for tests and benchmarks: a moto server in a separate process, on 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_START_TIMEOUT_S = 60.0
_NO_AUTH = 10**9
"""number of requests whose credentials are not checked"""
SECRET = "local-secret-0123456789"


class S3Emulator:
    """Running emulator. Use it as a context manager; `environment` are the variables that lead a process to it."""

    def __init__(self, port: int = 0) -> None:
        """Start the server and wait until it answers."""
        self._log = Path(tempfile.mkstemp(prefix="s3-emulator-")[1])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=self._log.open("wb"),
            env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_NO_AUTH)},
        )
        self.url = self._wait()
        self.port = int(self.url.rpartition(":")[2])
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "local-key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket."""
        self._boto.create_bucket(Bucket=bucket)

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object."""
        self._boto.put_object(Bucket=bucket, Key=key, Body=content)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self._boto.delete_object(Bucket=bucket, Key=key)

    def reject_credentials(self, *, rejects: bool) -> None:
        """Reject the credentials of all further requests, or accept them again."""
        count = 0 if rejects else _NO_AUTH
        url, headers = f"{self.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, str(count).encode(), headers, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=30).close()

    def requests(self, method: str) -> list[str]:
        """Return the paths of all requests with a method."""
        marks = (part.partition(" HTTP")[0] for part in self._log.read_text().split(f"{method} "))
        return [path for path in marks if path.startswith("/")]

    def kill(self) -> None:
        """Kill the server."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.unlink(missing_ok=True)

    @cached_property
    def _boto(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(proxies={}),
        )

    def _wait(self) -> str:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            _, mark, rest = self._log.read_text().partition("Running on ")
            if mark and "\n" in rest:
                return rest.split()[0]
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"the S3 emulator did not start: {self._log.read_text()[-500:]}")
