#!/usr/bin/env python3
"""Stand-in for SLURM on one machine: this file under the names `sbatch`, `srun` and `scontrol` in a folder of PATH.

    sbatch      runs a script with the variables of its directives, and again after `scontrol requeue`
    srun        runs a command once per node, as local processes with their own SLURM_NODEID
    scontrol    `show hostnames` and `requeue`

The folder $SLURM_STUB gets directives.json, batch.pid, node-N.pid, srun.json and one line in `requeued` per requeue.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("SLURM_STUB", "."))
JOB = "4711"


def sbatch(arguments: list[str]) -> int:
    """Run a script, and again while it is queued again."""
    script = Path(arguments[0])
    lines = [line.split() for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    directives = dict(
        (value.removeprefix("--").partition("=")[::2]) for line in lines for value in line[1:]
    )
    (FOLDER / "directives.json").write_text(json.dumps(directives))
    nodes = int(directives["nodes"])
    environment = {"SLURM_JOB_ID": JOB, "SLURM_NNODES": str(nodes)}
    environment["SLURM_JOB_NODELIST"] = ",".join(["127.0.0.1"] * nodes)
    attempts, before = 0, num_requeued()
    while True:
        environment["SLURM_RESTART_COUNT"] = str(attempts)
        batch = subprocess.Popen(["bash", *arguments], env=os.environ | environment)
        (FOLDER / "batch.pid").write_text(str(batch.pid))
        code = batch.wait()
        attempts += 1
        if num_requeued() - before < attempts:
            return code


def num_requeued() -> int:
    """Return the number of calls of `scontrol requeue`, of all jobs."""
    path = FOLDER / "requeued"
    return len(path.read_text().split()) if path.exists() else 0


def srun(arguments: list[str]) -> int:
    """Run a command once per node."""
    options = [one for one in arguments if one.startswith("--")]
    command = arguments[len(options) :]
    (FOLDER / "srun.json").write_text(json.dumps({"options": options, "command": command}))
    nodes = []
    for number in range(int(os.environ["SLURM_NNODES"])):
        node = {"SLURM_NODEID": str(number), "SLURM_PROCID": str(number)}
        nodes.append(subprocess.Popen(command, env=os.environ | node))
        (FOLDER / f"node-{number}.pid").write_text(str(nodes[-1].pid))
    return max(abs(node.wait()) for node in nodes)


def scontrol(arguments: list[str]) -> int:
    """List hosts, or note that a job is queued again."""
    if arguments[:2] == ["show", "hostnames"]:
        sys.stdout.write(arguments[2].replace(",", "\n") + "\n")
    else:
        assert arguments == ["requeue", JOB]
        with (FOLDER / "requeued").open("a") as file:
            file.write(JOB + "\n")
    return 0


if __name__ == "__main__":
    tool = {"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[Path(sys.argv[0]).name]
    sys.exit(tool(sys.argv[1:]))
