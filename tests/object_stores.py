"""Local object stores other than S3: emulators of GCS and Azure, and a stand-in of the hub's requests for files of a data set.

gs   gcp-storage-emulator (PyPI), with gcsfs
az   Azurite (npm), with adlfs; its program is `blob` in `.cache/azurite/node_modules/azurite`
hf   paths-info, tree and resolve of a data set, as the documentation of the hub's API describes them
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Protocol

AZURITE = (
    Path(__file__).parents[1] / ".cache" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
)
_AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""the published key of every Azurite"""
_START_TIMEOUT_S = 60.0


class LocalStore(Protocol):
    """Running store with one bucket."""

    root: str
    """URL of the bucket, with a slash"""
    missing_bucket: str
    environment: dict[str, str]
    """variables that lead fsspec to it"""

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""

    def kill(self) -> None:
        """End it: connections are refused."""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(is_ready: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            is_ready()
        except OSError:
            time.sleep(0.1)
        else:
            return
    process.kill()
    raise RuntimeError("the emulator did not start")


def _start(command: list[str], port: int, **options: Any) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet, **options)
    _wait(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), process)
    return process


class GcsEmulator:
    """Emulator of GCS."""

    root, missing_bucket = "gs://media/", "gs://nobody/"

    def __init__(self) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {"STORAGE_EMULATOR_HOST": self.url}
        flags = ["start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
        self._process = _start([sys.executable, "-m", "gcp_storage_emulator", *flags], port)
        self._post("storage/v1/b?project=local", b'{"name": "media"}', "application/json")

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        query = urllib.parse.urlencode({"uploadType": "media", "name": key})
        self._post(f"upload/storage/v1/b/media/o?{query}", content, "application/octet-stream")

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _post(self, path: str, content: bytes, kind: str) -> None:
        request = urllib.request.Request(f"{self.url}/{path}", content, {"Content-Type": kind})
        urllib.request.urlopen(request, timeout=30).close()


class AzureEmulator:
    """Azurite."""

    root, missing_bucket = "az://media/", "az://nobody/"

    def __init__(self) -> None:
        from azure.storage.blob import BlobServiceClient

        port = _free_port()
        text = (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_AZURE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        )
        self.environment = {"AZURE_STORAGE_CONNECTION_STRING": text}
        flags = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
        flags += ["--silent", "--skipApiVersionCheck"]
        self._process = _start([str(AZURITE), *flags], port)
        self._client = BlobServiceClient.from_connection_string(text)
        self._client.create_container("media")

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._client.get_blob_client("media", key).upload_blob(content, overwrite=True)

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class _HubHandler(BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        form = urllib.parse.parse_qs(self.rfile.read(length).decode())
        path = urllib.parse.unquote(self.path.partition("?")[0])
        start, _, rest = path.partition("/datasets/owner/name")
        names = list(self.files)
        if (
            start == ""
            and (content := self.files.get(rest.removeprefix("/resolve/main/"))) is not None
        ):
            self._file(content)
        elif rest.startswith("/paths-info/main"):
            self._json([self._entry(name) for name in form["paths"] if name in names])
        elif rest.startswith("/tree/main"):
            below = rest.removeprefix("/tree/main").strip("/")
            self._json([self._entry(name) for name in names if name.startswith(below)])
        elif (start, rest) == ("/api", ""):
            self._json({"id": "owner/name", "sha": "0" * 40})
        else:
            code = "EntryNotFound" if "owner/name" in path else "RepoNotFound"
            self._reply(404, b"{}", {"X-Error-Code": code})

    do_POST = do_HEAD = do_GET

    def _entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": oid}

    def _file(self, content: bytes) -> None:
        wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
        first, _, last = wanted.partition("-")
        part = content[int(first) : int(last or len(content)) + 1]
        shown = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        self._reply(206, part, {"Content-Range": shown})

    def _json(self, value: Any) -> None:
        self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _reply(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class HubStandIn:
    """Files of the data set `owner/name` of the hub."""

    root, missing_bucket = "hf://datasets/owner/name/", "hf://datasets/owner/none/"

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        handler = type("Handler", (_HubHandler,), {"files": self._files})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1"}

    def put(self, key: str, content: bytes) -> None:
        """Write a file."""
        self._files[key] = content

    def kill(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


STORES: dict[str, type[Any]] = {"gs": GcsEmulator, "az": AzureEmulator, "hf": HubStandIn}


def missing(store: str) -> str:
    """Return what a store needs and this environment lacks; empty if nothing."""
    modules = {
        "gs": ("gcsfs", "gcp_storage_emulator"),
        "az": ("adlfs",),
        "hf": ("huggingface_hub",),
    }
    lacking = [name for name in modules[store] if importlib.util.find_spec(name) is None]
    if store == "az" and not os.access(AZURITE, os.X_OK):
        lacking.append("Azurite")
    return f"needs {', '.join(lacking)}: make cloud" if lacking else ""
