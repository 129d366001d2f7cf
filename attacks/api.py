"""Send generated requests to the API server: valid and invalid ones of every operation of its OpenAPI document.

    python -m attacks.api --count 5000 --seed 0

schemathesis generates them. Checks: no 5xx, no undocumented status, content type or header, and bodies that match the document. Half of
the requests with an id in their path have the id of a finished trace, a file, a picture or a shared page that exists, so that they get
beyond 404. The server runs in this process with a scripted model.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

TIMEOUT_S = 30.0


class Outcome(NamedTuple):
    """What was sent and what failed."""

    statuses: Counter[int]
    operations: Counter[str]
    """successful requests by operation"""
    failures: list[str]

    @property
    def num_cases(self) -> int:
        """Number of requests."""
        return self.statuses.total()


class Known:
    """Things of a server that exist, for parameters in paths. What a request deleted is created again.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        import httpx2

        self._client = httpx2.Client(base_url=url, timeout=TIMEOUT_S)
        self._values: dict[str, dict[str, str]] = {}
        self._rng = random.Random(0)

    def fill(self, case: Any) -> None:
        """Replace parameters in the path, and the model in the body, of every second request by what exists."""
        if isinstance(case.body, dict) and self._rng.random() < 0.5:
            known = {"model": "test", "messages": [{"role": "user", "content": "Which colour?"}]}
            case.body.update({name: known[name] for name in case.body if name in known})
        create = next((one for path, one in _CREATE.items() if case.path.startswith(path)), None)
        if create is None or not case.path_parameters or self._rng.random() < 0.5:
            return
        path = case.path.split("{")[0]
        values = self._values.get(path)
        if values is None or not self._exists(path, values):
            values = self._values[path] = create(self._client)
        changed = {name: values[name] for name in case.path_parameters if name in values}
        case.path_parameters.update(changed)

    def _exists(self, path: str, values: dict[str, str]) -> bool:
        found = path + "/".join(list(values.values())[: 2 if "form" in values else 1])
        return self._client.get(found).status_code == 200


def _create_trace(client: Any) -> dict[str, str]:
    from server_fixture import data_url

    body = {"question": "Which colour?", "media": [data_url(_png())]}
    id = client.post("/v1/traces", json=body).json()["id"]
    client.get(f"/v1/traces/{id}/events")  # until the end
    item = client.get(f"/v1/traces/{id}/item").json()
    return {"id": id, "ref": item["traces"][0]["pictures"][0]["view"]["ref"]}


def _create_shared(client: Any) -> dict[str, str]:
    path = client.post(f"/v1/traces/{_create_trace(client)['id']}/share").json()["path"]
    return {"secret": path.rpartition("/")[2]}


def _create_file(client: Any) -> dict[str, str]:
    return {"id": client.post("/v1/files", files={"file": ("a.png", _png())}).json()["id"]}


def _model(client: Any) -> dict[str, str]:
    return {"name": client.get("/v1/models").json()["data"][0]["id"]}


def _sample(client: Any) -> dict[str, str]:
    return {"id": client.get("/v1/studio").json()["samples"][0]["id"], "form": "media"}


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, "PNG")
    return buffer.getvalue()


_CREATE = {
    "/v1/traces/": _create_trace,
    "/v1/files/": _create_file,
    "/shared/": _create_shared,
    "/v1/models/": _model,
    "/v1/samples/": _sample,
}


def send_cases(url: str, num_cases: int, seed: int) -> Outcome:
    """Send at least `num_cases` requests to a server and return what failed.

    Args:
        url: of the server.
        num_cases: of all operations together; half of them are valid.
        seed: of the generator.
    """
    import schemathesis
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    outcome, known = Outcome(Counter(), Counter(), []), Known(url)
    # Operations without parameters have few different cases, so they get few.
    sizes = {one.label: (8 if one.body else 1) for one in operations}
    total = sum(sizes.values())
    while outcome.num_cases < num_cases:
        before = outcome.num_cases
        left = num_cases - before
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                share = max(2, left * sizes[operation.label] // total // 2)
                strategy = _strategy(operation, mode)
                if strategy is not None:
                    _send(strategy, share, seed, outcome, known)
        seed += 1
        assert outcome.num_cases > before, "no operation generates requests"
    return outcome


def _strategy(operation: Any, mode: Any) -> Any:
    from schemathesis.core.errors import InvalidSchema

    try:
        return operation.as_strategy(mode)
    except InvalidSchema:
        return None


def _send(strategy: Any, count: int, seed: int, outcome: Outcome, known: Known) -> None:
    import hypothesis
    import schemathesis
    from hypothesis.errors import Unsatisfiable
    from schemathesis.specs.openapi import checks

    checked = [
        schemathesis.checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=strategy)
    def send(case: Any) -> None:
        known.fill(case)
        response = case.call(timeout=TIMEOUT_S)
        outcome.statuses[response.status_code] += 1
        outcome.operations[case.operation.label] += response.status_code == 200
        try:
            case.validate_response(response, checks=checked)
        except Exception as error:
            text = f"{case.method} {case.path}: {response.status_code}: {error}"
            outcome.failures.append(text[:2000])

    try:
        send()
    except Unsatisfiable:  # an operation without parameters has no invalid requests
        return


def main() -> int:
    """Run the attack and print one line, and the failures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    from pixel_reasoner.models.scripted import ScriptedModel
    from pixel_reasoner.server.studio_page import StudioPart
    from pixel_reasoner.server.traces import TracesPart
    from server_fixture import serving

    model = ScriptedModel([r"It is red. \boxed{red}"])
    with serving(model, parts=[TracesPart(), StudioPart(is_bundled=True)]) as server:
        outcome = send_cases(server.url, options.count, options.seed)
    by_status = ", ".join(
        f"{status}: {number}" for status, number in sorted(outcome.statuses.items())
    )
    never = sorted(label for label, count in outcome.operations.items() if not count)
    print(
        f"{outcome.num_cases} requests of {len(outcome.operations)} operations, {len(outcome.failures)} failures "
        f"({by_status}); without a success: {', '.join(never) or 'none'}"
    )
    for failure in outcome.failures[:20]:
        print(failure)
    return bool(outcome.failures)


if __name__ == "__main__":
    raise SystemExit(main())
