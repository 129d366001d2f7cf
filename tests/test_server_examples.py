"""Files of `examples/serve/`: the unit, the container file, and that the docs show what the tests run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest
from typer.main import get_command

from nginx_fixture import EXAMPLES
from pixel_reasoner.cli import app
from pixel_reasoner.server.settings import ServerSettings

DOCS = EXAMPLES.parents[1] / "docs" / "serve.md"


def without_comments(text: str) -> str:
    """Return a file without comments of whole lines."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()


def check_options(words: list[str]) -> None:
    """Assert that a command has all options that it is called with."""
    assert words[1] == "serve"
    command = get_command(app).commands["serve"]
    known = {name for one in command.params for name in one.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= known, used - known


def test_the_docs_show_the_configuration_that_the_tests_run():
    blocks = re.findall(r"```nginx\n(.*?)\n```", DOCS.read_text(), re.DOTALL)
    assert blocks == [without_comments((EXAMPLES / "nginx.conf").read_text())]


def test_limits_of_nginx_are_not_below_those_of_the_server():
    defaults = ServerSettings()
    for name in ("nginx.conf", "nginx-replicas.conf"):
        text = (EXAMPLES / name).read_text()
        body, upload = re.findall(r"client_max_body_size (\d+)m;", text)
        assert int(body) * 2**20 >= defaults.max_body_bytes
        assert int(upload) * 2**20 >= defaults.max_upload_bytes
        (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
        assert int(seconds) > defaults.request_timeout_s


def unit() -> dict[str, str]:
    lines = without_comments((EXAMPLES / "pixel-reasoner.service").read_text()).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_the_unit_calls_the_command_and_waits_for_the_drain():
    check_options(shlex.split(unit()["ExecStart"]))
    assert float(unit()["TimeoutStopSec"]) > ServerSettings().drain_timeout_s + 10


@pytest.mark.medium
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_valid_and_hardened(tmp_path):
    text = (EXAMPLES / "pixel-reasoner.service").read_text()
    program = shlex.split(unit()["ExecStart"])[0]
    path = tmp_path / "pixel-reasoner.service"
    path.write_text(text.replace(program, "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", path],
        capture_output=True,
        timeout=60,
    )
    assert rated.returncode == 0, rated.stdout


def test_the_container_file_calls_the_command_as_another_user_than_root():
    text = (EXAMPLES / "Containerfile").read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    check_options(json.loads(entry))
    users = re.findall(r"^USER (\d+)$", text, re.MULTILINE)
    assert users
    assert users[-1] != "0"
    assert f"--uid {users[-1]}" in text
    copied = re.findall(r"^COPY (.*)$", text, re.MULTILINE)
    ignored = (EXAMPLES.parents[1] / ".dockerignore").read_text()
    for name in (name for line in copied for name in line.split()[:-1]):
        assert f"!{name}" in ignored, name
