"""W&B and MLflow get the metrics of every step, and no credentials. Run by `make adapters`, where both are installed."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("wandb")
pytest.importorskip("mlflow")

from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.sft import train_sft

pytestmark = [
    pytest.mark.medium,
    pytest.mark.extras,
    *(pytest.mark.filterwarnings(f"ignore::{name}") for name in ("FutureWarning", "UserWarning")),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
SECRET = "7f3acafe5ecret0ab9d1"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two SFT steps that report to both trackers, with secrets in the environment."""
    folder = tmp_path_factory.mktemp("trackers")
    settings = SynthSettings(
        source="pixelworld",
        count=8,
        families=("attribute",),
        budgets=folder_settings(BUNDLED_MODELS["tiny"]).budgets,
    )
    synthesize(settings, scene_units(settings), folder / "traces")
    trl = {
        "max_steps": 2,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "report_to": ["wandb", "mlflow"],
        "hub_token": SECRET,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DIR", str(folder))
        patch.setenv("WANDB_API_KEY", SECRET * 2)
        patch.setenv("HF_TOKEN", SECRET)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
        patch.setenv("MLFLOW_FLATTEN_PARAMS", "TRUE")
        patch.chdir(folder)
        train_sft(SftRun(traces=(str(folder / "traces"),), out=str(folder / "sft"), trl=trl))
        import wandb

        wandb.finish()
    return folder


def logged(run: Path) -> dict[int, dict[str, float]]:
    rows = [json.loads(line) for line in (run / "sft" / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in rows if "perf/mfu" in row}


def test_mlflow_gets_the_metrics_of_each_step(run):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{run}/mlflow.db")
    (found,) = client.search_runs(["0"])
    history = {
        one.step: one.value for one in client.get_metric_history(found.info.run_id, "perf/mfu")
    }
    assert history == pytest.approx({step: row["perf/mfu"] for step, row in logged(run).items()})
    assert "perf/memory_gib" in found.data.metrics


def wandb_records(path: Path) -> Iterator[bytes]:
    """Yield the records of an offline run: a file header of 7 bytes, and LevelDB's log format."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # too short for a header
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or last part
            yield record
            record = b""


def test_wandb_gets_the_metrics_of_each_step_without_a_network(run):
    from wandb.proto import wandb_internal_pb2

    (path,) = run.glob("wandb/offline-run-*/run-*.wandb")
    found = {}
    for data in wandb_records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {one.key or "/".join(one.nested_key): one.value_json for one in record.history.item}
        if "train/perf/mfu" in items:
            found[json.loads(items["train/global_step"])] = json.loads(items["train/perf/mfu"])
    assert found == pytest.approx({step: row["perf/mfu"] for step, row in logged(run).items()})


def test_no_file_of_a_run_contains_credentials(run):
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
