"""Trace API: events, resumption, isolation between keys, files, sharing, limits, and the end of the process."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from io import BytesIO

import pytest
from attacks.kill_server import attack
from PIL import Image

from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.server.auth import Key
from pixel_reasoner.server.job_store import JobState, JobStore
from pixel_reasoner.server.traces import TracesPart
from server_fixture import data_url, serving, wait_until
from test_scheduler import CLOSER, RED, TickingModel


def ask(server, *pictures, headers=None, question="Which colour?", **fields):
    body = {"question": question, "media": [data_url(one) for one in pictures]} | fields
    reply = server.post("/v1/traces", body, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def events_of(server, id, after=None, headers=None):
    headers = (headers or {}) | ({} if after is None else {"Last-Event-ID": str(after)})
    found = []
    with server.client.stream("GET", f"/v1/traces/{id}/events", headers=headers) as reply:
        assert reply.status_code == 200, reply.read()
        event = {}
        for line in reply.iter_lines():
            name, _, value = line.partition(": ")
            if not line and "data" in event:
                found.append((int(event["id"]), event["event"], json.loads(event["data"])))
                event = {}
            elif name:
                event[name] = value
    return found


def finished(server, id, headers=None):
    events_of(server, id, headers=headers)
    return server.get(f"/v1/traces/{id}", headers=headers).json()


@pytest.fixture(scope="module")
def server():
    with serving(ScriptedModel([CLOSER, RED]), parts=[TracesPart()]) as one:
        yield one


def test_events_arrive_in_order_and_end_with_the_last_one(server, photo):
    job = ask(server, photo)
    assert job["state"] == "queued"
    events = events_of(server, job["id"])
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind, _ in events if not kind.endswith("_delta")]
    assert kinds == [
        "queued",
        "turn_started",
        "tool_call",
        "crop_ready",
        "turn_started",
        "turn_done",
        "answer",
        "finished",
    ]
    crop = next(data for _, kind, data in events if kind == "crop_ready")
    (shown,) = [one for one in crop["trace"]["pictures"] if one["number"] in crop["pictures"]]
    assert shown["box"] == [0.25, 0.25, 0.5, 0.5]
    assert events[-1][2] == {"state": "finished", "answers": [{"answer": "red", "count": 1}]}


def test_a_listener_that_continues_receives_exactly_the_missing_events(server, photo):
    id = ask(server, photo)["id"]
    events = events_of(server, id)
    for number in range(len(events) + 1):
        assert events_of(server, id, after=number) == events[number:]
    reply = server.get(f"/v1/traces/{id}/events", headers={"Last-Event-ID": "x"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "Last-Event-ID"


def test_a_listener_that_joins_late_receives_every_event_of_a_running_job(photo):
    with serving(TickingModel("slow " * 2000 + RED), parts=[TracesPart()]) as server:
        id = ask(server, photo)["id"]
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(events_of(server, id))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
    assert found[0] == found[1] == found[2]
    texts = [data["text"] for _, kind, data in found[0] if kind == "text_delta"]
    assert "".join(texts).startswith("slow slow")
    assert len(texts) > 1


def test_a_finished_trace_contains_no_path_and_is_a_trace_record(server, photo):
    id = ask(server, photo, expected="red")["id"]
    reply = finished(server, id)
    assert reply["state"] == "finished"
    assert reply["answer"] == "red"
    trace = Trace.from_object(reply["traces"][0])
    assert trace.question.media[0].path == "picture-1.png"
    assert trace.question.answer == ("red",)
    text = json.dumps(reply) + server.get(f"/v1/traces/{id}/item").text
    assert str(server.services.root) not in text
    item = server.get(f"/v1/traces/{id}/item").json()
    assert item["traces"][0]["outcome"] == "right"


def test_repetitions_and_the_comparison_without_operations_are_traces_of_one_job(server, photo):
    options = {"repeat": 2, "without_operations": True}
    reply = finished(server, ask(server, photo, options=options)["id"])
    assert len(reply["traces"]) == 4
    item = server.get(f"/v1/traces/{reply['id']}/item").json()
    names = [one["name"] for one in item["traces"]]
    assert names[0] == "with operations, answer 1"
    assert names[3] == "without operations, answer 2"
    operations = [Trace.from_object(one).settings.operations for one in reply["traces"]]
    assert operations[0] == operations[1] != ()
    assert operations[2] == operations[3] == ()
    # The script zooms first, which is no answer without operations.
    assert reply["answers"] == [{"answer": "red", "count": 2}]


def test_a_hint_is_part_of_the_question_for_the_model_only(photo):
    model = ScriptedModel([RED])
    with serving(model, parts=[TracesPart()]) as server:
        options = {"hints": [{"box": [0.1, 0.2, 0.3, 0.4]}]}
        reply = finished(server, ask(server, photo, options=options)["id"])
    assert reply["question"] == "Which colour?"
    assert "[0.100, 0.200, 0.300, 0.400] of picture 1" in str(model.conversations[0])


def test_a_question_can_follow_about_the_same_media(photo):
    model = ScriptedModel([CLOSER, RED, RED])
    with serving(model, parts=[TracesPart()]) as server:
        first = finished(server, ask(server, photo)["id"])
        second = finished(server, ask(server, follows=first["id"], question="Sure?")["id"])
        assert second["answer"] == "red"
        assert second["follows"] == first["id"]
        # The conversation is continued with its crop.
        assert "Which colour?" in str(model.conversations[-1])
        assert len(second["traces"][0]["pictures"]) == 2
        third = finished(server, ask(server, follows=second["id"], question="Really?")["id"])
        assert third["state"] == "finished"
        assert server.delete(f"/v1/traces/{first['id']}").status_code == 200
        box = {"picture": 1, "box": "0,0,1,1"}
        assert server.get(f"/v1/traces/{third['id']}/regions", params=box).status_code == 200
        for id in (second["id"], third["id"]):
            server.delete(f"/v1/traces/{id}")
        assert not list((server.services.root / "traces" / "media").iterdir())


def test_files_have_their_own_type_and_nothing_else_can_be_read(server, photo):
    id = finished(server, ask(server, photo)["id"])["id"]
    item = server.get(f"/v1/traces/{id}/item").json()
    ref = item["traces"][0]["pictures"][1]["view"]["ref"]
    reply = server.get(f"/v1/traces/{id}/pictures/{ref}")
    kind = {"webp": "image/webp", "jpg": "image/jpeg"}[ref.rpartition(".")[2]]
    assert reply.headers["content-type"] == kind
    assert reply.content.startswith(b"RIFF" if kind == "image/webp" else b"\xff\xd8\xff")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "immutable" in reply.headers["cache-control"]
    assert (
        Image.open(BytesIO(reply.content)).format
        == {"webp": "WEBP", "jpg": "JPEG"}[ref[-4:].strip(".")]
    )
    for name in ("../../jobs.sqlite3", "..%2f..%2fjobs.sqlite3", "export.html", "0" * 20 + ".webp"):
        assert server.get(f"/v1/traces/{id}/pictures/{name}").status_code == 404
    for name, kind in (("page", "text/html"), ("strip", "image/png"), ("animation", "image/gif")):
        reply = server.get(f"/v1/traces/{id}/{name}")
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"].startswith(kind)
        assert "attachment" in reply.headers["content-disposition"]
        assert str(server.services.root).encode() not in reply.content


def test_a_region_has_full_resolution(server, tmp_path):
    big = Image.effect_noise((3000, 2000), 90).convert("RGB")
    big.save(tmp_path / "big.png")
    id = finished(server, ask(server, tmp_path / "big.png")["id"])["id"]

    def region(**parameters):
        return server.get(f"/v1/traces/{id}/regions", params={"picture": 1} | parameters)

    reply = region(box="0.5,0.5,0.6,0.6")
    assert Image.open(BytesIO(reply.content)).size == (300, 200)
    assert Image.open(BytesIO(region(max_side=100).content)).size == (100, 67)
    for bad in ("1,1,0,0", "0,0,2,2", "nan,0,1,1", "a", "0,0,1"):
        assert region(box=bad).status_code == 400
    assert region(picture=9).status_code == 404


def test_the_list_is_newest_first_and_can_be_searched(photo):
    with serving(ScriptedModel([RED]), parts=[TracesPart()]) as server:
        for question in ("Is it 100%?", "Which colour?", "What shape?"):
            finished(server, ask(server, photo, question=question)["id"])
        listed = server.get("/v1/traces", params={"limit": 2}).json()
        assert [one["question"] for one in listed["data"]] == ["What shape?", "Which colour?"]
        rest = server.get("/v1/traces", params={"before": listed["next_before"]}).json()
        assert [one["question"] for one in rest["data"]] == ["Is it 100%?"]
        assert rest["has_more"] is False
        found = server.get("/v1/traces", params={"q": "100%"}).json()
        assert len(found["data"]) == 1
        assert len(server.get("/v1/traces", params={"q": "RED"}).json()["data"]) == 3


# --- keys ---

ALICE, BOB = ({"Authorization": f"Bearer {name}-key-0123456789"} for name in ("alice", "bob"))
KEYS = tuple(
    Key(hashlib.sha256(f"{name}-key-0123456789".encode()).digest(), name)
    for name in ("alice", "bob")
)


def test_a_trace_is_invisible_to_other_keys_until_it_is_shared(photo):
    with serving(ScriptedModel([CLOSER, RED]), keys=KEYS, parts=[TracesPart()]) as server:
        id = finished(server, ask(server, photo, headers=ALICE)["id"], ALICE)["id"]
        item = server.get(f"/v1/traces/{id}/item", headers=ALICE).json()
        ref = item["traces"][0]["pictures"][0]["view"]["ref"]
        paths = ("", "/item", "/events", "/page", "/strip", "/animation", f"/pictures/{ref}")
        for path in (*paths, "/regions?picture=1"):
            assert server.get(f"/v1/traces/{id}{path}").status_code == 401, path
            assert server.get(f"/v1/traces/{id}{path}", headers=BOB).status_code == 404, path
            assert server.get(f"/v1/traces/{id}{path}", headers=ALICE).status_code == 200, path
        for path in ("/cancel", "/share"):
            assert server.post(f"/v1/traces/{id}{path}", {}, headers=BOB).status_code == 404
        assert server.client.delete(f"/v1/traces/{id}", headers=BOB).status_code == 404
        assert server.get("/v1/traces", headers=BOB).json()["data"] == []
        follow = {"question": "And?", "follows": id}
        assert server.post("/v1/traces", follow, headers=BOB).status_code == 404

        path = server.post(f"/v1/traces/{id}/share", {}, headers=ALICE).json()["path"]
        page = server.get(path)
        assert page.status_code == 200
        assert "Which colour?" in page.text
        assert page.headers["x-robots-tag"] == "noindex"
        assert server.get(path[:-1] + "x").status_code == 404
        assert server.client.delete(f"/v1/traces/{id}/share", headers=ALICE).status_code == 200
        assert server.get(path).status_code == 404
        path = server.post(f"/v1/traces/{id}/share", {}, headers=ALICE).json()["path"]
        assert server.client.delete(f"/v1/traces/{id}", headers=ALICE).status_code == 200
        assert server.get(path).status_code == 404
        assert server.get(f"/v1/traces/{id}", headers=ALICE).status_code == 404
        assert not list((server.services.root / "traces" / "media").iterdir())


# --- limits and ends ---


def test_a_job_continues_without_listeners_and_cancel_frees_its_slot(photo):
    with serving(
        TickingModel("slow " * 100_000), parts=[TracesPart()], max_running=1, max_waiting=0
    ) as server:
        id = ask(server, photo)["id"]
        with server.client.stream("GET", f"/v1/traces/{id}/events") as reply:
            next(reply.iter_lines())
        wait_until(lambda: server.get(f"/v1/traces/{id}").json()["state"] == "running")
        body = {"question": "Which colour?", "media": [data_url(photo)]}
        reply = server.post("/v1/traces", body)
        assert reply.status_code == 429
        assert reply.headers["retry-after"]
        assert server.get(f"/v1/traces/{id}/page").status_code == 404
        assert server.get(f"/v1/traces/{id}/item").json()["traces"][0]["stop"] == "running"
        assert server.post(f"/v1/traces/{id}/cancel", {}).json()["state"] == "cancelled"
        assert server.services.admission.num_requests == 0
        assert events_of(server, id)[-1][2]["state"] == "cancelled"
        second = ask(server, photo)["id"]
        assert server.client.delete(f"/v1/traces/{second}").status_code == 200
        wait_until(lambda: server.num_unfinished == 0)


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"question": ""}, 400, "question"),
        ({"question": "  ", "media": []}, 400, "question"),
        ({"media": ["file:///etc/passwd"]}, 400, "media.0"),
        ({"media": ["http://169.254.169.254/"]}, 403, "media.0"),
        ({"media": ["data:image/png;base64,AAAA"]}, 400, "media.0"),
        ({"media": ["data:text/html,x"]}, 400, "media.0"),
        ({"media": ["file-" + "0" * 32]}, 404, "media.0"),
        ({"media": ["x"] * 40}, 400, "media.0"),
        ({"model": "other"}, 404, "model"),
        ({"follows": "nothing"}, 404, "follows"),
        ({"options": {"repeat": 9}}, 400, "options.repeat"),
        ({"options": {"max_turns": 99}}, 400, "options.max_turns"),
        ({"options": {"operations": ["format_disk"]}}, 400, "options.operations"),
        ({"options": {"hints": [{"box": [0.5, 0, 0.5, 1]}]}}, 400, "options.hints.0.box"),
        ({"unknown": 1}, 400, "unknown"),
    ],
)
def test_a_refusal_names_the_field(server, photo, changes, status, param):
    body = {"question": "Which colour?", "media": [data_url(photo)]} | changes
    reply = server.post("/v1/traces", body)
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["param"] == param
    assert server.services.admission.num_requests == 0


def test_a_picture_that_cannot_be_decoded_ends_the_job_with_an_error(server):
    broken = b"\x89PNG\r\n\x1a\n" + b"0" * 100
    id = ask(server, broken)["id"]
    _, kind, data = events_of(server, id)[-1]
    assert (kind, data["state"], data["code"]) == ("error", "failed", "invalid_image")
    assert str(server.services.root) not in json.dumps(data)
    assert str(server.services.root) not in server.get(f"/v1/traces/{id}").text
    item = server.get(f"/v1/traces/{id}/item").json()
    assert item["traces"][0]["error"]


def test_a_store_belongs_to_one_server(tmp_path):
    store = JobStore(tmp_path / "traces")
    with pytest.raises(UsageError, match="which a running server uses"):
        JobStore(tmp_path / "traces")
    store.close()
    JobStore(tmp_path / "traces").close()


def test_files_without_a_job_are_deleted_at_the_next_start(tmp_path):
    """What a process leaves that was killed while it created or deleted a job."""
    (tmp_path / "a.png").write_bytes(b"x")
    store = JobStore(tmp_path / "traces")
    job = store.create("me", "?", "m", {}, {"a.png": tmp_path / "a.png"})
    store.finish(job.id, JobState.FINISHED, traces="[]", item="{}")
    (store.pictures("0" * 32)).mkdir()
    (store.pictures("0" * 32) / "x.webp").write_bytes(b"x")
    for name in ("b.png", "b.part"):
        (store.media / name).write_bytes(b"x")
    store.close()
    store = JobStore(tmp_path / "traces")
    assert [one.name for one in store.media.iterdir()] == ["a.png"]
    assert [one.name for one in store.pictures(job.id).parent.iterdir()] == [job.id]
    store.close()


def test_old_and_large_jobs_are_deleted_oldest_first(tmp_path):
    store = JobStore(tmp_path, max_bytes=2500)
    ids = []
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"x" * 1000)
        job = store.create("me", "?", "m", {}, {f"{number}.png": tmp_path / f"{number}.png"})
        store.finish(job.id, JobState.FINISHED, traces="[]", item="{}")
        ids.append(job.id)
        time.sleep(0.01)
    assert sorted(store.prune()) == sorted(ids[:2])
    assert sorted(one.name for one in store.media.iterdir()) == ["2.png", "3.png"]
    store.max_age_s = 0.0
    store.prune()
    assert store.search("me") == []


@pytest.mark.slow
def test_a_killed_process_loses_no_finished_trace(tmp_path):
    """Three kills under load; `python -m attacks.kill_server` does 50."""
    line = attack(tmp_path, count=3, seed=0, max_load_s=1.5)
    assert line.startswith("3 kills")
    assert " 0 finished and complete" not in line


def test_a_server_that_stops_marks_jobs_in_progress_as_interrupted(tmp_path, photo):
    model = TickingModel("slow " * 100_000)
    with serving(model, parts=[TracesPart()], store=tmp_path, drain_timeout_s=0.5) as server:
        id = ask(server, photo)["id"]
        wait_until(lambda: server.get(f"/v1/traces/{id}").json()["state"] == "running")
    store = JobStore(tmp_path / "traces")
    assert store.get(id).state is JobState.INTERRUPTED
    assert store.events(id)[-1].type == "error"
    assert json.loads(store.traces(id))
    store.close()
