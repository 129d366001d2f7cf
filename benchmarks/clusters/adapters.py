"""Adapters for RL frameworks, with the installed frameworks in the environments of `make adapters`.

PYTHONPATH=src:benchmarks python -m clusters.adapters
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from clusters.record import Result, save

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {
    "verl": "verl: agent loop, worker of its trainer, data set, configuration",
    "skyrl-gym": "SkyRL: environment and group rewards",
    "verifiers": "verifiers: environment of PixelWorld",
    "openenv": "OpenEnv: server of PixelWorld and its client",
}
"""package -> what its tests execute"""


def run_tests(package: str) -> tuple[str, str]:
    """Return the last line of a framework's tests, and its version; both are empty if it is not installed."""
    name = package.partition("-")[0]
    python = ROOT / f".venv-{name}" / "bin" / "python"
    if not python.exists():
        return "", ""
    found = f"import importlib.metadata as m; print(m.version('{package}'))"
    version = subprocess.run([python, "-c", found], capture_output=True, text=True, check=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    tests = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/test_{name}.py"],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return tests.stdout.strip().splitlines()[-1], version.stdout.strip()


def main() -> None:
    started = time.monotonic()
    results, packages = [], []
    for package, path in FRAMEWORKS.items():
        line, version = run_tests(package)
        value = re.sub(r" in [\d.]+s.*", "", line) or "not installed: make adapters"
        passed = "passed" in value and "failed" not in value and "error" not in value
        results.append(Result(path, "contract tests", value, "all pass", passed=passed))
        packages += [f"{package}=={version}"] if version else []
    save("adapters", results, packages, seconds=time.monotonic() - started)


if __name__ == "__main__":
    main()
