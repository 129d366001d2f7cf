"""Test of a model server that a user of Studio names. Blocking; bounded by `PROBE_LIMIT_S`."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable

from pixel_reasoner.dialects import detect_dialect
from pixel_reasoner.dialects.detect import FALLBACK
from pixel_reasoner.errors import CancelledError, EndpointError, InputError, UsageError
from pixel_reasoner.models.endpoint_url import checked_key
from pixel_reasoner.models.http_errors import MessageNames
from pixel_reasoner.models.http_pool import HttpPool, RetryPolicy
from pixel_reasoner.models.openai_schema import ModelCard
from pixel_reasoner.models.probe import Probe, probe
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel, list_models
from pixel_reasoner.server.connect_schema import (
    ConnectRequest,
    ConnectResult,
    Finding,
    findings_of,
)
from pixel_reasoner.server.endpoint_access import CheckedTransport, EndpointAccess
from pixel_reasoner.server.errors import ApiError

PROBE_LIMIT_S = 180.0
"""time limit of all requests of a probe"""
MAX_LISTED_MODELS = 200
OWN_SERVER = "pixel-reasoner"
"""`owned_by` in the list of models of this server"""
_PROBE_POLICY = RetryPolicy(timeout_s=60.0, max_tries=2, max_consecutive_failures=100)
_POLICY = RetryPolicy(timeout_s=300.0, max_tries=3, concurrency=8)
_NAMES = MessageNames(
    endpoint="the address",
    model="the name of the model",
    key="the field for the key",
    timeout="the time limit",
    server="the server",
)

Result = tuple[ConnectResult, RemoteModel | None]


def checked_request(asked: ConnectRequest, access: EndpointAccess) -> str:
    """Return the key of a request whose address and key are allowed. Sends nothing.

    Raises:
        ApiError: 400 or 403.
    """
    access.check(asked.endpoint)
    try:
        return checked_key(asked.key.get_secret_value(), "this field")
    except InputError as error:
        raise ApiError(
            400, f"key: expected {error.expected}; got {error.got}", param="key"
        ) from None


class ModelTest:
    """Test of one server.

    Args:
        asked: address and model.
        key: of the server; empty for none.
        access: rules for addresses.
    """

    def __init__(self, asked: ConnectRequest, key: str, access: EndpointAccess) -> None:
        self.asked, self._key, self._access = asked, key, access
        urls = (asked.endpoint,)
        self._pool = HttpPool(urls, key, _PROBE_POLICY, _NAMES, self._transport)

    def abort(self) -> None:
        """End the test. `run` then returns that it cannot be used."""
        self._pool.close()

    def run(self) -> Result:
        """Return what the server can do, and its model if it can be used. Blocking.

        Raises:
            ApiError: 403 if the host turns out to have an address that is not allowed.
        """
        timer = threading.Timer(PROBE_LIMIT_S, self.abort)
        timer.daemon = True
        timer.start()
        try:
            return self._run()
        except (EndpointError, UsageError, CancelledError) as error:
            finding = _failure(error, self._pool.redact)
            return ConnectResult(model=self.asked.model, findings=[finding]), None
        finally:
            timer.cancel()
            self._pool.close()

    def _run(self) -> Result:
        cards = list_models(self._pool)
        names = [one.id for one in cards][:MAX_LISTED_MODELS]
        name = self.asked.model.strip() or (names[0] if len(names) == 1 else "")
        if not name:
            return ConnectResult(findings=[_unnamed(names)], models=names), None
        model = self._model(name)
        try:
            found = probe(self._pool, model.name, model.profile)
        except BaseException:
            model.close()
            raise
        findings = _findings(model, found, cards)
        result = ConnectResult(model=model.name, findings=findings, models=names)
        if found.pictures is False:
            model.close()
            return result, None
        model.profile = found.profile(model.profile)
        return result, model

    def _model(self, name: str) -> RemoteModel:
        return RemoteModel(
            RemoteConfig(
                name,
                (self.asked.endpoint,),
                detect_dialect(name).name,  # by the name: no folder of this machine is read
                api_key=self._key,
                policy=_POLICY,
                names=_NAMES,
                new_transport=self._transport,
            )
        )

    def _transport(self, context: ssl.SSLContext) -> CheckedTransport:
        return CheckedTransport(self._access, context)


def _findings(model: RemoteModel, found: Probe, cards: list[ModelCard]) -> list[Finding]:
    findings = [
        Finding(name="answers", state="yes", text=f"It answers as {model.name}."),
        *findings_of(found),
        _dialect(model.dialect),
    ]
    is_own = any(one.owned_by == OWN_SERVER for one in cards)
    return [*findings, _OWN] if is_own else findings


def _dialect(name: str) -> Finding:
    if name == FALLBACK:
        text = "Its name is of no known family: operations are described in the prompt, which not every model follows."
        return Finding(name="operations", state="unknown", text=text)
    return Finding(
        name="operations",
        state="yes",
        text=f"Operations are offered in the format of its family ({name}).",
    )


_OWN = Finding(
    name="own server",
    state="unknown",
    text="It is a Pixel Reasoner server, which looks closer itself: its boxes are not shown here.",
    fix="Open the Studio of that server to see them.",
)


def _unnamed(names: list[str]) -> Finding:
    if not names:
        text = "It lists no models."
        return Finding(name="model", state="no", text=text, fix="Enter the name of the model.")
    text = f"It serves {len(names)} models."
    return Finding(name="model", state="no", text=text, fix="Choose one of them.")


def _failure(
    error: EndpointError | UsageError | CancelledError, redact: Callable[[str], str]
) -> Finding:
    if isinstance(error, CancelledError):
        text = f"The test was ended: it may take {PROBE_LIMIT_S:.0f} s at most."
        return Finding(name="answers", state="no", text=text, fix="Try again when it is idle.")
    fix = redact(error.fix)
    return Finding(
        name="answers",
        state="no",
        text=f"It cannot be used: {redact(error.got)}.",
        fix=f"{fix[:1].upper()}{fix[1:]}.",
    )
