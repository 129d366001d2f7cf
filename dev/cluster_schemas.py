"""Writes the schemas in `tests/golden` against which `tests/test_manifests.py` checks the manifests of `examples/cluster`.

    python dev/cluster_schemas.py KUBERNETES_VALIDATE RAYJOBS_CRD

KUBERNETES_VALIDATE is the unpacked wheel of kubernetes-validate, RAYJOBS_CRD the file `ray.io_rayjobs.yaml` of KubeRay's Helm
chart. Both are Apache-2.0. Texts and unused definitions are left out, and unknown fields are errors as in `kubectl --validate=strict`.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
KUBERNETES, KUBERAY = "1.37.0", "1.7.0"
LICENCE = "Apache-2.0. Reduced: without descriptions and definitions that are not used."
LEFT_OUT = ("description", "$id", "$schema")


def without_texts(schema: Any) -> Any:
    """Return a schema without descriptions and Kubernetes' own keywords."""
    if isinstance(schema, list):
        return [without_texts(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for name, value in schema.items():
        if name in ("properties", "$defs"):
            kept[name] = {key: without_texts(one) for key, one in value.items()}
        elif name not in LEFT_OUT and not name.startswith("x-kubernetes"):
            kept[name] = without_texts(value)
    is_open = "additionalProperties" in schema or "x-kubernetes-preserve-unknown-fields" in schema
    if "properties" in schema and not is_open:
        kept["additionalProperties"] = False
    return kept


def references(schema: Any) -> set[str]:
    """Return the names of the definitions that a schema refers to."""
    if isinstance(schema, list):
        return set().union(*map(references, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"].rpartition("/")[2]} if isinstance(schema.get("$ref"), str) else set()
    return own.union(*map(references, schema.values()))


def bundled(folder: Path, names: list[str]) -> dict[str, Any]:
    """Return one schema for several kinds of Kubernetes objects, with the definitions that they use."""
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    kinds = [without_texts(json.loads((folder / f"{name}.json").read_text())) for name in names]
    used: dict[str, Any] = {}
    waiting = references(kinds)
    while waiting:
        name = waiting.pop()
        used[name] = without_texts(definitions[name])
        waiting |= references(used[name]) - used.keys()
    text = json.dumps({"oneOf": kinds, "$defs": used}).replace("/api/_definitions.json#", "#")
    return {"$comment": f"Kubernetes {KUBERNETES}. {LICENCE}", **json.loads(text)}


def ray_job(path: Path) -> dict[str, Any]:
    """Return the schema of a RayJob."""
    versions = yaml.safe_load(path.read_text())["spec"]["versions"]
    (schema,) = [one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1"]
    reduced = without_texts(schema)
    reduced["properties"]["metadata"] = {"type": "object"}
    return {"$comment": f"KubeRay {KUBERAY}. {LICENCE}", **reduced}


def write(name: str, schema: dict[str, Any]) -> None:
    """Write a schema compressed, and print its sizes."""
    data = json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()
    (GOLDEN / name).write_bytes(gzip.compress(data, mtime=0))
    print(name, len(data), (GOLDEN / name).stat().st_size)


if __name__ == "__main__":
    kubernetes, crd = map(Path, sys.argv[1:])
    kinds = ["job-batch-v1", "service-v1", "persistentvolumeclaim-v1"]
    folder = (
        kubernetes / "kubernetes_validate/kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    )
    write("kubernetes.schema.json.gz", bundled(folder, kinds))
    write("rayjob.schema.json.gz", ray_job(crd))
