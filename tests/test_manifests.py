"""Manifests for Kubernetes and KubeRay: valid for their schemas, and consistent with each other and with the command line."""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "examples" / "cluster"


def validator(name: str) -> Draft202012Validator:
    data = gzip.decompress((ROOT / "tests" / "golden" / f"{name}.schema.json.gz").read_bytes())
    schema = json.loads(data)
    assert "Apache-2.0" in schema["$comment"]
    return Draft202012Validator(schema)


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


KUBERNETES, RAY_JOB = validator("kubernetes"), validator("rayjob")
SERVICE, JOB, CLAIM = documents("job.yaml")
(RAY,) = documents("rayjob.yaml")


def pods() -> list[dict]:
    """Return the specifications of all pods."""
    cluster = RAY["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [JOB["spec"]["template"]["spec"], *(one["template"]["spec"] for one in groups)]


@pytest.mark.parametrize("manifest", [SERVICE, JOB, CLAIM], ids=lambda one: one["kind"])
def test_manifests_of_kubernetes_are_valid(manifest):
    KUBERNETES.validate(manifest)


def test_the_manifest_of_kuberay_is_valid():
    RAY_JOB.validate(RAY)


@pytest.mark.parametrize(
    ("manifest", "schema", "path", "value"),
    [
        (JOB, KUBERNETES, ["spec", "completion"], 2),
        (JOB, KUBERNETES, ["spec", "parallelism"], "two"),
        (JOB, KUBERNETES, ["spec", "template", "spec", "containers", 0, "volumeMount"], []),
        (RAY, RAY_JOB, ["spec", "ttlSeconds"], 1),
        (RAY, RAY_JOB, ["spec", "rayClusterSpec", "authOptions", "mode"], "password"),
        (RAY, RAY_JOB, ["spec", "rayClusterSpec", "workerGroupSpecs", 0, "replicas"], "2"),
        (RAY, RAY_JOB, ["spec", "submitterConfig", "backOffLimit"], 2),
    ],
)
def test_the_schemas_reject_misspelled_fields_and_wrong_values(manifest, schema, path, value):
    changed = copy.deepcopy(manifest)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        schema.validate(changed)


def test_every_mount_has_a_volume_and_shared_memory_is_memory():
    for pod in pods():
        volumes = {one["name"]: one for one in pod["volumes"]}
        (container,) = pod["containers"]
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        assert set(mounts.values()) == set(volumes)
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        claim = volumes[mounts["/work"]]["persistentVolumeClaim"]["claimName"]
        assert claim == CLAIM["metadata"]["name"]
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteMany"], "all pods write to it"


def test_the_pods_of_a_job_find_each_other_and_have_all_ranks(tmp_path):
    spec = JOB["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert spec["completions"] == spec["parallelism"] == int(environment["NODES"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == environment["GPUS"]
    assert pod["subdomain"] == SERVICE["metadata"]["name"]
    assert SERVICE["spec"]["selector"] == {"job-name": JOB["metadata"]["name"]}
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "out").mkdir()
    (script,) = container["args"]
    printed = []
    for rank in (1, 0):
        (tmp_path / "out" / "stop").touch()  # of a killed attempt
        done = subprocess.run(
            [*container["command"], script.replace("/work/out", f"{tmp_path}/out")],
            env={**environment, "PATH": path, "JOB_COMPLETION_INDEX": str(rank)},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.insert(0, done.stdout.split())
        assert (tmp_path / "out" / "stop").exists() == (rank == 1)
    for rank, arguments in enumerate(printed):
        assert arguments[:2] == ["-m", "torch.distributed.run"]
        options = dict(zip(arguments[2:12:2], arguments[3:12:2], strict=True))
        assert options["--node_rank"] == str(rank)
        assert options["--nnodes"] == "2"
        assert options["--master_addr"] == f"{JOB['metadata']['name']}-0.{pod['subdomain']}"
        assert arguments[12:] == ["-m", "pixel_reasoner.cli", "train", "sft", "/work/run.toml"]


def test_an_evicted_pod_asks_the_run_to_stop_and_waits_for_its_end(tmp_path):
    (container,) = JOB["spec"]["template"]["spec"]["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as training:
        script = command[2].replace("/work/out", str(tmp_path))
        script = script.replace("kill -0 1", f"kill -0 {training.pid}")
        hook = subprocess.Popen([*command[:2], script], stderr=subprocess.DEVNULL)
        while not (tmp_path / "stop").exists():
            assert hook.poll() is None
        assert hook.poll() is None, "it waits while the run saves its checkpoint"
        training.terminate()
        training.wait()
        assert hook.wait(timeout=20) == 0
    assert JOB["spec"]["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    ]


def test_the_head_of_the_ray_cluster_does_not_train_and_one_worker_has_each_gpu():
    cluster = RAY["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    gpus = group["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
    words = shlex.split(RAY["spec"]["entrypoint"])
    assert words[:3] == ["pixel-reasoner", "train", "rl"]
    assert words[words.index("--ray-workers") + 1] == str(gpus)


def test_the_options_of_the_entrypoint_exist():
    page = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    section = page.partition("train rl")[2]
    for option in re.findall(r"--[a-z-]+", RAY["spec"]["entrypoint"]):
        assert option in section
