"""Labeller over real HTTP: after any server failure no reply is lost, requested twice or written twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from labeller_server import COLOURS, KEY
from pixel_reasoner.data.check import check_traces
from pixel_reasoner.data.endpoint import Endpoint, LabellerConfig
from pixel_reasoner.data.labeller import Labeller, LabellerSettings, labeller_settings
from pixel_reasoner.data.labels import Analysis
from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.errors import EndpointError, OutputError, UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.sources.base import open_source
from sa1b_fixture import draw_sa1b, write_picture

BUDGETS = folder_settings(BUNDLED_MODELS["tiny"]).budgets
QUICK = {"timeout_s": 20.0, "first_pause_s": 0.01, "concurrency": 2}
SHORT_TIMEOUT = {"timeout_s": 1.0}
SERVER = Path(__file__).with_name("labeller_server.py")


class Server:
    def __init__(self, port: str) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def program(self, **what) -> None:
        program = {
            name.replace("_", " ") if name != "delay_s" else name: do for name, do in what.items()
        }
        if "anything" in program:
            program["*"] = program.pop("anything")
        urlopen(Request(f"{self.root}/program", json.dumps(program).encode(), method="POST"))

    def log(self) -> dict:
        return json.load(urlopen(f"{self.root}/log"))

    @property
    def calls(self) -> list[dict]:
        return self.log()["calls"]

    def done(self, colour: int) -> list[str]:
        return [call["do"] for call in self.calls if call["colour"] == f"colour {colour}"]


@pytest.fixture(scope="module")
def process():
    command = [sys.executable, str(SERVER)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        yield Server(running.stdout.readline().strip())
        running.kill()


@pytest.fixture
def server(process) -> Server:
    process.program()
    return process


def service(server: Server, out: Path, **changes) -> LabellerConfig:
    return LabellerConfig(
        **{
            "urls": (server.url,),
            "model": "m",
            "cache": out / "labels",
            "log": out / "labeller.log",
        }
        | QUICK
        | changes
    )


def settings(**changes) -> SynthSettings:
    labelling = LabellerSettings(model="m", analysis=changes.pop("analysis", Analysis.TEMPLATE))
    return SynthSettings(
        **{"source": "sa1b", "count": 500, "budgets": BUDGETS, "labelling": labelling} | changes
    )


def run(
    server: Server,
    out: Path,
    units,
    *,
    on_traces=lambda written: None,
    workers=1,
    chosen=None,
    **used,
) -> dict:
    chosen = chosen or settings()
    endpoint = Endpoint(service(server, out, **used))
    with Labeller(endpoint, chosen.labelling.analysis, chosen.expert, out, chosen.quota) as stage:
        return synthesize(chosen, units, out, workers=workers, on_traces=on_traces, labeller=stage)


def regions(folder: Path, pictures: int = 4) -> Path:
    """Write regions of the colours 0, 1, 2, ..., two per picture."""
    return draw_sa1b(folder / "sa1b", pictures)


def rows(folder: Path):
    return open_source("sa1b", data=folder).units(folder)


def traces(out: Path) -> list:
    return list(load_traces(out / "traces.jsonl"))


def dropped(out: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (out / "dropped.jsonl").open()]
    return {one["where"].rpartition("-")[2]: one["reason"] for one in rows}


# --- questions and traces ---


def test_regions_become_questions_with_four_options_and_traces_that_pass_the_check(
    server, tmp_path
):
    summary = run(server, tmp_path / "out", rows(regions(tmp_path)))
    assert (summary["count"], summary["dropped"]) == (8, {})
    assert summary["labeller"] == {"calls": 8, "retried": 0, "cached": 0}
    assert check_traces(load_run(tmp_path / "out", [tmp_path / "sa1b"])).passed
    for trace in traces(tmp_path / "out"):
        colour = f"colour {trace.question.id.rpartition('-')[2]}"
        assert trace.question.options[trace.answer] == colour
        assert trace.question.text.startswith(f"What does the {colour} card carry?\nA. ")
        assert trace.question.evidence.subjects == (f"the {colour} card",)
        assert colour in trace.turns[-1].text


def test_the_labeller_gets_one_user_message_with_picture_and_region(server, tmp_path):
    run(server, tmp_path / "out", rows(regions(tmp_path, 1)))
    for call in server.calls:
        assert (call["role"], call["model"], call["keys"]) == ("user", "m", ["messages", "model"])
        whole, crop = call["sizes"]
        assert whole == [518, 388]
        # The region with the margin of a crop, enlarged.
        assert crop[0] * crop[1] >= 0.95 * 448**2
        assert "from 9% to 21% of its width" in call["text"] or call["colour"] != "colour 0"


def test_correct_options_are_spread_over_the_letters(server, tmp_path):
    run(server, tmp_path / "out", rows(regions(tmp_path, 8)))
    letters = Counter(trace.answer for trace in traces(tmp_path / "out"))
    assert sum(letters.values()) == 16
    assert len(letters) == 4


def test_unusual_but_clear_replies_are_parsed(server, tmp_path):
    server.program(colour_0=["fenced"], colour_1=["in words"])
    assert run(server, tmp_path / "out", rows(regions(tmp_path, 1)))["labeller"]["calls"] == 2
    assert len(traces(tmp_path / "out")) == 2


# --- failures ---


@pytest.mark.parametrize(
    "trouble",
    [["timeout"], ["429"], ["500", "503"], ["hang up", "408"], ["no completion"]],
    ids=str,
)
def test_a_temporary_failure_is_retried(server, tmp_path, trouble):
    server.program(colour_1=trouble)
    used = SHORT_TIMEOUT if "timeout" in trouble else {}
    summary = run(server, tmp_path / "out", rows(regions(tmp_path, 2)), **used)
    assert (summary["count"], summary["dropped"]) == (4, {})
    calls = 4 + len(trouble)
    assert summary["labeller"] == {"calls": calls, "retried": len(trouble), "cached": 0}
    assert len(server.calls) == calls
    assert server.done(1) == [*trouble, "answer"]


def test_no_retry_before_the_retry_after_time(server, tmp_path):
    server.program(colour_0=["429"])
    run(server, tmp_path / "out", rows(regions(tmp_path, 1)))
    first, second = (call["at_s"] for call in server.calls if call["colour"] == "colour 0")
    assert second - first >= 0.3


@pytest.mark.parametrize(
    ("trouble", "reason", "calls"),
    [
        ("timeout", "endpoint_timeout", 2),
        ("hang up", "endpoint_unreachable", 2),
        ("429", "rate_limited", 2),
        ("500", "endpoint_error", 2),
        ("no completion", "endpoint_error", 2),
        ("400", "request_refused", 1),
        ("413", "request_refused", 1),
        ("empty", "empty_reply", 3),
        ("null", "empty_reply", 3),
        ("not json", "reply_not_json", 3),
        ("cut off", "reply_not_json", 3),
        ("missing", "reply_missing_fields", 3),
        ("no verdict", "reply_missing_fields", 3),
        ("three options", "reply_missing_fields", 3),
        ("same options", "reply_same_options", 3),
        ("not among", "answer_not_among_options", 3),
        ("special", "reply_unusable_text", 3),
        ("not valid", "not_valid", 1),
        ("Not valid.", "not_valid", 1),
    ],
)
def test_a_row_without_a_usable_reply_is_counted_and_the_others_continue(
    server, tmp_path, trouble, reason, calls
):
    server.program(colour_1=["always", trouble])
    used = {"max_tries": 2} | (SHORT_TIMEOUT if trouble == "timeout" else {})
    out = tmp_path / "out"
    summary = run(server, out, rows(regions(tmp_path, 2)), **used)
    assert (summary["count"], summary["dropped"]) == (3, {reason: 1})
    assert dropped(out) == {"1": reason}
    assert len(server.done(1)) == calls
    assert summary["labeller"] == {"calls": 3 + calls, "retried": calls - 1, "cached": 0}


@pytest.mark.parametrize("bad", ["empty", "not json", "not among"])
def test_an_unusable_reply_is_requested_again(server, tmp_path, bad):
    server.program(colour_1=[bad, bad])
    summary = run(server, tmp_path / "out", rows(regions(tmp_path, 1)))
    assert (summary["count"], server.done(1)) == (2, [bad, bad, "answer"])


@pytest.mark.parametrize(("status", "fix"), [("401", "OPENAI_API_KEY"), ("404", "--labeller ")])
def test_a_fatal_status_stops_the_run_and_skips_no_row(server, tmp_path, status, fix):
    server.program(anything=["always", status])
    with pytest.raises(EndpointError, match=rf"got {status} told to.*{fix}"):
        run(server, tmp_path / "out", rows(regions(tmp_path)))
    assert len(server.calls) <= QUICK["concurrency"]
    # After the repair the same command resumes, and no row was skipped.
    server.program()
    summary = run(server, tmp_path / "out", rows(regions(tmp_path)))
    assert (summary["count"], summary["dropped"]) == (8, {})


def test_too_many_failures_in_a_row_stop_the_run_and_skip_no_row(server, tmp_path):
    server.program(anything=["always", "500"])
    with pytest.raises(EndpointError, match=r"no reply to \d questions in a row.*500"):
        run(
            server,
            tmp_path / "out",
            rows(regions(tmp_path)),
            max_tries=2,
            max_consecutive_failures=3,
        )
    assert len(server.calls) <= 2 * 5
    # No row was skipped.
    server.program()
    summary = run(server, tmp_path / "out", rows(regions(tmp_path)))
    assert (summary["count"], summary["dropped"]) == (8, {})


def test_an_unreachable_server_stops_the_run(server, tmp_path):
    with pytest.raises(EndpointError, match="ConnectError"):
        run(
            server, tmp_path / "out", rows(regions(tmp_path)),
            urls=("http://127.0.0.1:9/v1",), max_tries=2, max_consecutive_failures=2,
        )  # fmt: skip


def test_an_unreachable_server_is_skipped_if_another_one_answers(server, tmp_path):
    urls = ("http://127.0.0.1:9/v1", server.url)
    summary = run(server, tmp_path / "out", rows(regions(tmp_path)), urls=urls)
    assert (summary["count"], summary["dropped"]) == (8, {})
    assert len(server.calls) == 8
    assert summary["labeller"]["calls"] > 8, "calls without a reply are counted too"


# --- the cache and the budget ---


def test_a_repeated_run_makes_no_calls_and_writes_the_same(server, tmp_path):
    server.program(colour_1=["not valid"], colour_2=["always", "not json"])
    data = regions(tmp_path)
    shared = {"cache": tmp_path / "cache"}
    run(server, tmp_path / "first", rows(data), **shared)
    server.program()
    summary = run(server, tmp_path / "second", rows(data), **shared)
    assert server.calls == []
    assert summary["labeller"] == {"calls": 0, "retried": 0, "cached": 8}
    assert summary["dropped"] == {"not_valid": 1, "reply_not_json": 1}
    for name in ("traces.jsonl", "dropped.jsonl"):
        first, second = ((tmp_path / run / name).read_bytes() for run in ("first", "second"))
        assert first == second


@pytest.mark.parametrize("what", ["another model", "another picture", "a damaged answer"])
def test_a_cached_reply_is_used_for_the_same_content_only(server, tmp_path, what):
    data = regions(tmp_path, 1)
    shared = {"cache": tmp_path / "cache"}
    run(server, tmp_path / "first", rows(data), **shared)
    server.program()
    if what == "another model":
        run(server, tmp_path / "second", rows(data), model="n", **shared)
        assert len(server.calls) == 2
        return
    if what == "another picture":
        picture = Image.open(data / "sa_0.jpg")
        picture.putpixel((0, 0), (0, 0, 0))
        picture.save(data / "sa_0.jpg")
    else:
        for path in (tmp_path / "cache").glob("*/*.json"):
            path.write_text("{")
    run(server, tmp_path / "second", rows(data), **shared)
    assert len(server.calls) == 2


def test_the_same_content_under_several_names_is_one_call(server, tmp_path):
    for stem in ("sa_1", "sa_2", "sa_3", "sa_4"):
        write_picture(tmp_path / "sa1b", stem, ["colour 3"])
    server.program(delay_s=0.1)
    summary = run(server, tmp_path / "out", rows(tmp_path / "sa1b"), concurrency=4)
    assert summary["count"] == 4
    assert summary["labeller"] == {"calls": 1, "retried": 0, "cached": 3}


def test_a_spent_budget_ends_the_run_with_the_rows_labelled_so_far(server, tmp_path):
    server.program(colour_0=["500"])
    out = tmp_path / "out"
    summary = run(server, out, rows(regions(tmp_path)), calls=5, concurrency=1)
    assert summary["labeller"] == {"calls": 5, "retried": 1, "cached": 0}
    assert len(server.calls) == 5
    assert (summary["count"], summary["dropped"]) == (4, {"not_asked": 4})
    # Cached replies are free, with or without a budget.
    shared = {"cache": out / "labels"}
    summary = run(server, tmp_path / "more", rows(regions(tmp_path)), calls=2, **shared)
    assert summary["labeller"] == {"calls": 2, "retried": 0, "cached": 4}
    assert (summary["count"], summary["dropped"]) == (6, {"not_asked": 2})
    summary = run(server, tmp_path / "none", rows(regions(tmp_path)), calls=0, **shared)
    assert (summary["count"], summary["labeller"]["calls"]) == (6, 0)


def test_a_spent_budget_ends_a_run_over_an_endless_source(server, tmp_path):
    chosen = settings(
        source="pixelworld", families=("attribute",), count=20, text_share=0.0,
        analysis=Analysis.LABELLER,
    )  # fmt: skip
    summary = run(server, tmp_path / "out", scene_units(chosen), chosen=chosen, calls=4)
    assert summary["count"] == 4
    assert summary["dropped"]["not_asked"] >= 20


def test_a_partial_cache_file_of_a_killed_run_is_removed(server, tmp_path):
    data, out = regions(tmp_path, 1), tmp_path / "out"
    run(server, out, rows(data))
    for path in list((out / "labels").glob("*/*.json")):
        path.rename(path.with_suffix(".12345-6.part"))  # killed before it was renamed
    run(server, tmp_path / "second", rows(data), cache=out / "labels")
    assert len(list((out / "labels").rglob("*.json"))) == 2
    assert not list(out.rglob("*.part"))


# --- order, kills, workers ---


def test_calls_overlap_and_results_are_in_order(server, tmp_path):
    data = regions(tmp_path, 8)
    server.program(delay_s=0.15, colour_0=["500"])
    run(server, tmp_path / "out", rows(data), concurrency=8)
    assert 3 <= server.log()["most_at_once"] <= 8
    ids = [trace.question.id for trace in traces(tmp_path / "out")]
    assert ids == [row.id for row in rows(data)]


@pytest.mark.medium
def test_bytes_do_not_depend_on_concurrency_or_workers(server, tmp_path):
    data = regions(tmp_path)
    run(server, tmp_path / "a", rows(data), concurrency=1)
    run(server, tmp_path / "b", rows(data), concurrency=8, workers=2)
    assert (tmp_path / "a/traces.jsonl").read_bytes() == (tmp_path / "b/traces.jsonl").read_bytes()


def test_rows_are_read_only_as_far_as_they_are_labelled(server, tmp_path):
    read = []

    def reading():
        for row in rows(data):
            read.append(row)
            yield row

    class Stop(Exception):
        pass

    def stop(written: int) -> None:
        if written == 2:
            raise Stop

    data = regions(tmp_path, 13)
    with pytest.raises(Stop):
        run(server, tmp_path / "out", reading(), on_traces=stop)
    assert len(read) <= 2 + 2 * QUICK["concurrency"] + 1


@pytest.mark.medium
def test_an_interrupted_run_resumes_to_the_same_bytes_without_repeated_calls(server, tmp_path):
    data = regions(tmp_path, 6)
    run(server, tmp_path / "whole", rows(data))
    whole = (tmp_path / "whole/traces.jsonl").read_bytes()

    class Stop(Exception):
        pass

    for stop_at in (1, 6, 11):
        server.program()

        def stop(written: int, stop_at: int = stop_at) -> None:
            if written == stop_at:
                raise Stop

        out = tmp_path / str(stop_at)
        with pytest.raises(Stop):
            run(server, out, rows(data), on_traces=stop)
        summary = run(server, out, rows(data))
        assert (out / "traces.jsonl").read_bytes() == whole
        assert Counter(call["colour"] for call in server.calls) == dict.fromkeys(
            [f"colour {n}" for n in range(12)], 1
        )
        assert summary["labeller"]["calls"] == 12


def command(server: Server, data: Path, out: Path, *more: str) -> list[str]:
    used = ["--labeller", server.url, "--labeller-model", "m", "--labeller-concurrency", "2"]
    run = [sys.executable, "-m", "pixel_reasoner.cli", "synth", "sa1b", "--data", str(data)]
    return [*run, "--out", str(out), *used, *more]


@pytest.mark.medium
def test_a_killed_command_resumes_without_repeated_calls(server, tmp_path):
    data = regions(tmp_path, 9)
    server.program(delay_s=0.1)
    cut = subprocess.Popen(
        command(server, data, tmp_path / "cut"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(server.calls) < 9:
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.02)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    assert not (tmp_path / "cut/traces.jsonl").exists()
    subprocess.run(command(server, data, tmp_path / "cut"), check=True, capture_output=True)
    asked = Counter(call["colour"] for call in server.calls)
    assert set(asked) == {f"colour {n}" for n in range(18)}
    # Replies in progress at the kill are lost; all others are cached.
    assert sum(asked.values()) <= 18 + 2
    counted = json.loads((tmp_path / "cut/summary.json").read_text())["labeller"]["calls"]
    # Calls are counted before they are made: the kill may prevent a counted one.
    assert sum(asked.values()) <= counted <= sum(asked.values()) + 2
    run(server, tmp_path / "whole", rows(data))
    whole, cut_off = ((tmp_path / name / "traces.jsonl").read_bytes() for name in ("whole", "cut"))
    assert cut_off == whole
    assert not list((tmp_path / "cut").rglob("*.part"))


def test_a_budget_covers_all_resumptions(server, tmp_path):
    data, out = regions(tmp_path), tmp_path / "out"

    class Stop(Exception):
        pass

    def stop(written: int) -> None:
        if written == 2:
            raise Stop

    with pytest.raises(Stop):
        run(server, out, rows(data), on_traces=stop, calls=5)
    summary = run(server, out, rows(data), calls=5)
    assert len(server.calls) == summary["labeller"]["calls"] == 5
    assert summary["count"] == 5


def test_an_unwritable_cache_stops_the_run_with_its_path(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.*Not a directory"):
        run(server, tmp_path / "out", rows(regions(tmp_path)), cache=tmp_path / "file")


# --- findings of the labeller ---


def test_the_labeller_writes_findings_for_other_sources(server, tmp_path):
    server.program(colour_2=["always", "not valid"])
    picture = Image.new("RGB", (400, 300), (128, 128, 128))
    places = [[50, 50, 70, 70], [150, 50, 170, 70], [250, 150, 270, 170]]
    for number, box in enumerate(places):
        picture.paste(COLOURS[f"colour {number}"], box)
    picture.save(tmp_path / "a.png")
    row = {"media": [{"type": "image", "path": "a.png"}], "question": "Which?", "answer": "x"}
    lines = [
        row | {"id": "one", "boxes": [places[0]], "findings": ["it says x"]},
        row | {"id": "two", "boxes": places[:2]},
        row | {"id": "unsupported", "boxes": [places[2]]},
        row | {"id": "overview", "needs_look": False},
        row | {"id": "nowhere"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    chosen = settings(source="jsonl", analysis=Analysis.LABELLER)
    units = open_source("jsonl", data=tmp_path / "rows.jsonl").units(tmp_path)
    summary = run(server, tmp_path / "out", units, chosen=chosen)
    assert summary["labeller"]["calls"] == 3
    assert summary["dropped"] == {"no_evidence": 1, "not_valid": 1}
    one, two, overview = traces(tmp_path / "out")
    assert one.question.evidence.findings == ("the middle shows colour 0",)
    assert "the middle shows colour 0." in one.turns[-1].text.lower()
    assert len(two.question.evidence.findings) == 2
    assert sorted(len(call["sizes"]) for call in server.calls) == [1, 1, 2]
    assert overview.question.id == "overview"


def test_selected_frames_are_sent(server, tmp_path, clip):
    row = {
        "id": "clip", "media": [{"type": "video", "path": clip.name}], "question": "How bright?",
        "answer": "very", "frames": [9, 10, 11],
    }  # fmt: skip
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    chosen = settings(source="jsonl", analysis=Analysis.LABELLER)
    run(
        server,
        tmp_path / "out",
        open_source("jsonl", data=tmp_path / "rows.jsonl").units(tmp_path),
        chosen=chosen,
    )
    assert [len(call["sizes"]) for call in server.calls] == [3]
    (trace,) = traces(tmp_path / "out")
    assert trace.question.evidence.findings[0].startswith("the middle shows")


@pytest.mark.medium
@pytest.mark.parametrize("family", ["attribute", "video"])
def test_labelled_scenes_have_the_calls_of_template_traces(server, tmp_path, family):
    world = {"source": "pixelworld", "families": (family,), "count": 8}
    plain = settings(**world, labelling=None)
    synthesize(plain, scene_units(plain), tmp_path / "plain")
    label_units = settings(**world, analysis=Analysis.LABELLER)
    summary = run(server, tmp_path / "labelled", scene_units(label_units), chosen=label_units)
    assert summary["count"] == 8
    by_template, by_labeller = traces(tmp_path / "plain"), traces(tmp_path / "labelled")
    for one, other in zip(by_template, by_labeller, strict=True):
        assert one.question.id == other.question.id
        assert [turn.call for turn in one.turns] == [turn.call for turn in other.turns]
        assert ("middle shows" in other.turns[-1].text.lower()) == one.question.needs_look
    assert check_traces(load_run(tmp_path / "labelled")).passed


# --- the command line ---


def call_cli(*arguments: str, key: str | None = None) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    env |= {"OPENAI_API_KEY": key} if key else {}
    return subprocess.run(
        [sys.executable, "-m", "pixel_reasoner.cli", *arguments],
        capture_output=True,
        text=True,
        env=env,
    )


@pytest.mark.medium
def test_a_folder_of_sa1b_becomes_checked_traces(server, tmp_path):
    server.program(anything=["always", "key"], colour_1=["not valid"])
    data, out = regions(tmp_path), tmp_path / "out"
    arguments = command(server, data, out, "--regions", "1")[3:]
    refused = call_cli(*arguments, key="another")
    assert refused.returncode == 2
    (message,) = [line for line in refused.stderr.splitlines() if "error" in line]
    assert message.startswith("error: expected http")
    assert "401" in message
    assert "the environment variable OPENAI_API_KEY" in message
    assert "another" not in refused.stderr
    assert "Traceback" not in refused.stderr
    done = call_cli(*arguments, key=KEY)
    assert done.returncode == 0, done.stderr
    assert "labeller: calls" in done.stdout
    checked = call_cli("check", str(out))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    ids = [trace.question.id for trace in traces(out)]
    assert len(ids) + len(dropped(out)) == 4
    again = call_cli(*arguments[:-1], "2", key=KEY)
    assert again.returncode == 2
    assert "regions = 1" in again.stderr


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        ("sa1b", {}, "SA-1B has regions and no questions"),
        ("sa1b", {"urls": ["http://host/v1"]}, "no model"),
        ("jsonl", {"analysis": "labeller"}, "--analysis labeller needs a labeller"),
        ("jsonl", {"urls": ["http://host/v1"], "model": "m"}, "add --analysis labeller"),
        ("jsonl", {"analysis": "essay"}, "template or labeller"),
    ],
)
def test_options_that_do_not_fit_together_are_an_error_with_a_fix(source, given, expected):
    wanted = {"urls": [], "model": None, "analysis": "template", "calls": None} | given
    with pytest.raises(UsageError, match=expected):
        labeller_settings(source, **wanted)


def test_a_source_with_questions_needs_no_labeller():
    assert labeller_settings("jsonl", [], None, "template", None) is None


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://", ""])
def test_an_invalid_address_is_refused_before_anything_is_sent(server, tmp_path, url):
    with pytest.raises(UsageError, match="--labeller http"):
        Endpoint(service(server, tmp_path, urls=(url,)))


def test_an_invalid_key_is_refused_and_not_shown(server, tmp_path):
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as error:
        Endpoint(service(server, tmp_path, api_key="schlüssel…"))
    assert "schl" not in str(error.value)


def test_starting_the_command_line_loads_no_http_client():
    code = "import sys, pixel_reasoner.cli, pixel_reasoner.data.synth; sys.exit('httpx2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
