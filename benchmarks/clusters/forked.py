"""Run commands of `pixel-reasoner` with several processes that share one import of torch, as torchrun starts them.

    python -m clusters.forked COMMANDS.json

COMMANDS.json contains a list of [processes, arguments, log]. They run one after the other. torchrun imports everything in each
process of each run, which takes longer than short runs themselves.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import torch

TIMEOUT_S = 240.0


class Command(NamedTuple):
    """One command line."""

    processes: int
    arguments: list[str]
    """arguments of `pixel-reasoner`"""
    log: str
    """file of the output of all processes"""


def run(command: Command) -> int:
    """Run a command in forked processes, and return its exit code: 124 after a timeout. One failure ends all processes."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = range(command.processes)
    running = {_fork(command, rank, store.port): rank for rank in ranks}
    deadline, code = time.monotonic() + TIMEOUT_S, 0
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            del running[pid]
            code = code or os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            code = code or 124
        if code:
            for one in running:
                os.kill(one, signal.SIGKILL)
        time.sleep(0.01)
    return code


def _fork(command: Command, rank: int, port: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    file = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    size = str(command.processes)
    launched = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    if command.processes > 1:
        os.environ.update(launched)
    torch.set_num_threads(1)  # processes share the cores
    code = 1
    try:
        _call(command.arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the end of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(arguments: list[str]) -> None:
    if arguments[0] == "scripted":
        from clusters.scripted import train_scripted

        train_scripted(Path(arguments[1]))
        return
    from pixel_reasoner.cli import main

    sys.argv = ["pixel-reasoner", *arguments]
    main()


def main(path: Path) -> int:
    import pixel_reasoner.train.rl
    import pixel_reasoner.train.sft  # noqa: F401 - shared by all forks

    for value in json.loads(path.read_text(encoding="utf-8")):
        command, started = Command(*value), time.monotonic()
        code = run(command)
        print(f"{time.monotonic() - started:6.1f} s, exit code {code}: {command.log}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
