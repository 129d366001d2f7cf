"""Kill the server with SIGKILL under load, start it again, and check every trace that it accepted.

    python -m attacks.kill_server --count 50 --seed 0 --folder runs/kills     # the same command continues after an interruption

Each round: clients create traces and chat at the same time, the server is killed at a random time, and is started again with the
same store. Every trace that a client saw finished must be finished and complete (record, item, pictures, regions, page, events);
every other accepted trace must be finished, or marked as interrupted with a last event that says so. No file without a trace
remains. Every round is a line of `rounds.jsonl`. Prints one line at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

NUM_TRACE_CLIENTS, NUM_CHAT_CLIENTS = 4, 2
MAX_LOAD_S = 6.0
"""longest time from the first request to the kill"""
NUM_OLD = 10
"""traces of earlier rounds that are checked completely in every round; all of them are at the end"""


class Load:
    """Clients of one round. They end when the server is gone.

    Args:
        url: of the server.
        rng: chooses pictures.
    """

    def __init__(self, url: str, rng: random.Random) -> None:
        self.url = url
        self.accepted: list[str] = []
        """ids that the server returned"""
        self.finished: list[str] = []
        """ids whose last event a client received"""
        self.num_chats = 0
        kinds = [self._trace] * NUM_TRACE_CLIENTS + [self._chat] * NUM_CHAT_CLIENTS
        self._threads = [
            threading.Thread(target=self._repeat, args=(kind, random.Random(rng.random())))
            for kind in kinds
        ]

    def start(self) -> None:
        """Wait for one trace, because the first one starts the processes that decode; then start all clients."""
        import httpx2

        with httpx2.Client(base_url=self.url, timeout=60.0) as client:
            self._trace(client, random.Random(self.url), listens=True)
        for one in self._threads:
            one.start()

    def join(self) -> None:
        """Wait for their end."""
        for one in self._threads:
            one.join(60)
            assert not one.is_alive(), "a client does not notice that the server is gone"

    def _repeat(self, request: Any, rng: random.Random) -> None:
        import httpx2

        with httpx2.Client(base_url=self.url, timeout=30.0) as client:
            while True:
                try:
                    request(client, rng)
                except (httpx2.TransportError, json.JSONDecodeError):
                    return

    def _trace(self, client: Any, rng: random.Random, *, listens: bool = False) -> None:
        body = {"question": "Which colour?", "media": [noise(rng)], "options": {"repeat": 2}}
        reply = client.post("/v1/traces", json=body)
        if reply.status_code == 429:
            time.sleep(0.1)
            return
        assert reply.status_code == 200, reply.text
        id = reply.json()["id"]
        self.accepted.append(id)
        if not listens and rng.random() < 0.3:
            return  # nobody listens; the job continues
        with client.stream("GET", f"/v1/traces/{id}/events") as events:
            kinds = [one[7:] for one in events.iter_lines() if one.startswith("event: ")]
        assert kinds[-1] == "finished", kinds[-1]
        self.finished.append(id)
        if rng.random() < 0.2:
            assert client.get(f"/v1/traces/{id}/page").status_code == 200

    def _chat(self, client: Any, rng: random.Random) -> None:
        part = {"type": "image_url", "image_url": {"url": noise(rng)}}
        message = {"role": "user", "content": [part, {"type": "text", "text": "Which colour?"}]}
        body = {"messages": [message], "stream": rng.random() < 0.5}
        reply = client.post("/v1/chat/completions", json=body)
        assert reply.status_code in (200, 429), reply.text
        self.num_chats += reply.status_code == 200


def noise(rng: random.Random) -> str:
    """Return the data URL of a picture that no other request has."""
    from PIL import Image

    from server_fixture import data_url

    buffer = BytesIO()
    Image.frombytes("RGB", (96, 64), rng.randbytes(96 * 64 * 3)).save(buffer, "PNG")
    return data_url(buffer.getvalue())


def check_job(client: Any, id: str, *, was_finished: bool) -> str:
    """Check one accepted trace completely, and return its state.

    Raises:
        AssertionError: something is missing.
    """
    from PIL import Image

    from pixel_reasoner.schema.trace import Trace

    reply = client.get(f"/v1/traces/{id}")
    assert reply.status_code == 200, f"{id} is lost: {reply.text}"
    job = reply.json()
    events = client.get(f"/v1/traces/{id}/events").text.split("\n")
    kinds = [one[7:] for one in events if one.startswith("event: ")]
    numbers = [int(one[4:]) for one in events if one.startswith("id: ")]
    assert numbers == list(range(1, len(numbers) + 1)), f"{id}: events are missing"
    if job["state"] != "finished":
        assert job["state"] == "interrupted", f"{id}: {job['state']}"
        assert not was_finished, f"{id} was finished and is interrupted"
        assert kinds[-1] == "error", f"{id}: {kinds[-1]}"
        return "interrupted"
    assert kinds[-1] == "finished", f"{id}: {kinds[-1]}"
    assert [Trace.from_object(one).answer for one in job["traces"]] == ["red", "red"]
    item = client.get(f"/v1/traces/{id}/item").json()
    for trace in item["traces"]:
        assert len(trace["pictures"]) == 2
        for picture in trace["pictures"]:
            content = client.get(f"/v1/traces/{id}/pictures/{picture['view']['ref']}").content
            Image.open(BytesIO(content)).load()
    for path in ("regions?picture=2", "strip"):
        Image.open(BytesIO(client.get(f"/v1/traces/{id}/{path}").content)).load()
    page = client.get(f"/v1/traces/{id}/page")
    assert page.status_code == 200, page.text
    assert page.text.rstrip().endswith("</html>"), f"{id}: half a page"
    return "finished"


def check_files(store: Path) -> None:
    """Check the database and that every file belongs to a trace. The server must not be running.

    Raises:
        AssertionError: a damaged database, or a file of no trace.
    """
    folder = store / "traces"
    with sqlite3.connect(folder / "jobs.sqlite3") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        jobs = {id for (id,) in db.execute("SELECT id FROM jobs")}
        media = {name for (name,) in db.execute("SELECT name FROM media")}
    db.close()
    assert {one.name for one in (folder / "pictures").iterdir()} <= jobs
    assert {one.name for one in (folder / "media").iterdir()} == media


def run_round(
    folder: Path, number: int, rng: random.Random, known: dict[str, bool], max_load_s: float
) -> dict[str, Any]:
    """Start the server, check what it has, put it under load, and kill it.

    Args:
        folder: with the store and the log.
        number: of the round.
        rng: chooses the time of the kill and the pictures.
        known: accepted ids of earlier rounds -> whether a client saw the end.
        max_load_s: longest time from the first request to the kill.

    Returns:
        What the log contains.
    """
    from server_process import ServerProcess

    process = ServerProcess(folder / "store")
    process.wait_ready()
    try:
        states = check_known(process.url, known, rng)
        load = Load(process.url, rng)
        load.start()
        seconds = rng.uniform(0.05, max_load_s)
        time.sleep(seconds)
    finally:
        process.kill()
    load.join()
    finished = set(load.finished)
    return {
        "round": number,
        "seconds": round(seconds, 3),
        "checked": states,
        "chats": load.num_chats,
        "accepted": {id: id in finished for id in load.accepted},
    }


def check_known(
    url: str, known: dict[str, bool], rng: random.Random, num_old: int = NUM_OLD
) -> dict[str, int]:
    """Check the traces of the last round and some older ones. Returns how many have which state."""
    import httpx2

    ids = list(known)
    recent, old = ids[-200:], ids[:-200]
    chosen = [*rng.sample(old, min(num_old, len(old))), *recent]
    states: Counter[str] = Counter()
    with httpx2.Client(base_url=url, timeout=60.0) as client:
        for id in chosen:
            states[check_job(client, id, was_finished=known[id])] += 1
    return dict(states)


def final_check(folder: Path, known: dict[str, bool]) -> dict[str, int]:
    """Check all traces, stop the server with SIGTERM, and check the files."""
    from server_process import ServerProcess

    process = ServerProcess(folder / "store")
    process.wait_ready()
    try:
        states = check_known(process.url, known, random.Random(0), num_old=len(known))
    finally:
        process.stop()
    check_files(folder / "store")
    return states


def attack(folder: Path, count: int, seed: int, max_load_s: float = MAX_LOAD_S) -> str:
    """Run the missing rounds and the final check. Returns one line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rounds.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rounds = [json.loads(line) for line in lines]
    known = {id: end for one in rounds for id, end in one["accepted"].items()}
    for number in range(len(rounds), count):
        rng = random.Random(f"{seed} {number}")
        found = run_round(folder, number, rng, known, max_load_s)
        with path.open("a") as log:
            log.write(json.dumps(found) + "\n")
        rounds.append(found)
        known |= found["accepted"]
        print(f"round {number}: {len(found['accepted'])} accepted", flush=True)
    states = final_check(folder, known)
    chats = sum(one["chats"] for one in rounds)
    return (
        f"{len(rounds)} kills, {len(known)} accepted traces: {states.get('finished', 0)} finished and complete, "
        f"{states.get('interrupted', 0)} interrupted, 0 lost; {sum(known.values())} ends seen by clients; "
        f"{chats} chats"
    )


def main() -> int:
    """Run the attack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="continue here [default: a new folder]")
    options = parser.parse_args()
    if options.folder is not None:
        print(attack(options.folder, options.count, options.seed))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        print(attack(Path(folder), options.count, options.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
