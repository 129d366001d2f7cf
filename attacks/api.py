"""Send generated requests to the API server: valid and invalid ones of every operation of its OpenAPI document.

    python -m attacks.api --count 5000 --seed 0

schemathesis generates them. Checks: no 5xx, no undocumented status, content type or header, and bodies that match the document. The
server runs in this process with a scripted model.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

TIMEOUT_S = 30.0


class Outcome(NamedTuple):
    """What was sent and what failed."""

    num_cases: int
    statuses: Counter[int]
    failures: list[str]


def send_cases(url: str, num_cases: int, seed: int) -> Outcome:
    """Send at least `num_cases` requests to a server and return what failed.

    Args:
        url: of the server.
        num_cases: of all operations together; half of them are valid.
        seed: of the generator.
    """
    import hypothesis
    import schemathesis
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    # Operations without parameters have few different cases, so they get few.
    sizes = {one.label: (8 if one.body else 1) for one in operations}
    total = sum(sizes.values())
    while statuses.total() < num_cases:
        before = statuses.total()
        left = num_cases - before
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                share = max(2, left * sizes[operation.label] // total // 2)
                strategy = _strategy(operation, mode)
                if strategy is not None:
                    _send(strategy, share, seed, statuses, failures)
        seed += 1
        assert statuses.total() > before, "no operation generates requests"
    del hypothesis
    return Outcome(statuses.total(), statuses, failures)


def _strategy(operation: Any, mode: Any) -> Any:
    from schemathesis.core.errors import InvalidSchema

    try:
        return operation.as_strategy(mode)
    except InvalidSchema:
        return None


def _send(
    strategy: Any, count: int, seed: int, statuses: Counter[int], failures: list[str]
) -> None:
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
        response = case.call(timeout=TIMEOUT_S)
        statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=checked)
        except Exception as error:
            failures.append(f"{case.method} {case.path}: {response.status_code}: {error}"[:2000])

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
    print(f"{outcome.num_cases} requests, {len(outcome.failures)} failures ({by_status})")
    for failure in outcome.failures[:20]:
        print(failure)
    return bool(outcome.failures)


if __name__ == "__main__":
    raise SystemExit(main())
