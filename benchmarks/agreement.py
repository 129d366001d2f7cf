"""Compare a model on a server with the same model in this process.

    tests/servers/vllm.sh 8001                # in another terminal; or tests/servers/transformers.sh 8002
    .venv/bin/python benchmarks/agreement.py http://127.0.0.1:8001/v1 [QUESTIONS] [CONCURRENCY] [text|native]

Greedy decoding on all families of PixelWorld's test split. Compares operations, answers and texts of each question and prints every difference.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.openai_chat import ToolProtocol
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.world import FAMILIES, render, scenes

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8001/v1"
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 100
CONCURRENCY = int(sys.argv[3]) if len(sys.argv) > 3 else 16
PROTOCOL = ToolProtocol(sys.argv[4]) if len(sys.argv) > 4 else ToolProtocol.TEXT


def summary_of(trace: Trace) -> str:
    calls = [f"{turn.call.name}({turn.call.arguments})" for turn in trace.turns if turn.call]
    return " ".join([*calls, f"-> {trace.answer} ({trace.stop})", trace.error or ""])


def main() -> None:
    config = RolloutConfig(sampling=SamplingParams(max_new_tokens=128))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = [s for f in FAMILIES for s in scenes(f, "test", 0, COUNT // len(FAMILIES))]
        questions = [with_media_root(question, folder) for question in render(wanted, folder)]
        local = LocalModel("tiny")
        local_traces = {t.question.id: t for t in ask_many(questions, local, config)}
        settings = folder_settings(model_folder("tiny"))
        remote_config = RemoteConfig(
            str(model_folder("tiny")),
            (URL,),
            settings.dialect,
            settings.budgets,
            PROTOCOL,
            policy=RetryPolicy(concurrency=CONCURRENCY),
        )
        remote = RemoteModel(remote_config)
        started = time.perf_counter()
        remote_traces = {
            t.question.id: t for t in ask_many(questions, remote, config, batch_size=CONCURRENCY)
        }
        seconds = time.perf_counter() - started
    same = {"answers": 0, "operations": 0, "texts": 0}
    for question in questions:
        here, there = local_traces[question.id], remote_traces[question.id]
        same["answers"] += here.answer == there.answer
        same["operations"] += [t.call for t in here.turns] == [t.call for t in there.turns]
        same["texts"] += [t.text for t in here.turns] == [t.text for t in there.turns]
        if summary_of(here) != summary_of(there):
            print(f"{question.id}\n  here:  {summary_of(here)}\n  there: {summary_of(there)}")
    turns = sum(len(trace.turns) for trace in remote_traces.values())
    print(
        f"{remote.server} at {URL}, {PROTOCOL}: of {len(questions)} questions the same "
        + ", ".join(f"{name} {count}" for name, count in same.items())
        + f"; {turns} turns in {seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
