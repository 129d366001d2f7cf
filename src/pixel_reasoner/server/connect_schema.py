"""Bodies of `/v1/connections`, and the result of a probe in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr

from pixel_reasoner.models.endpoint_url import MAX_KEY_BYTES
from pixel_reasoner.models.probe import Probe
from pixel_reasoner.server.chat_schema import Body

FindingState = Literal["yes", "no", "unknown"]


class ConnectRequest(Body):
    """Server and model to connect."""

    endpoint: Annotated[str, Field(min_length=1, max_length=2000)]
    """base address of an OpenAI-compatible server, such as http://localhost:8000/v1"""
    model: Annotated[str, Field(max_length=500)] = ""
    """name of the model on the server; may be empty if the server lists exactly one"""
    key: Annotated[SecretStr, Field(max_length=MAX_KEY_BYTES)] = SecretStr("")
    """kept in memory only, until the connection ends"""


class Finding(BaseModel):
    """One result of the probe."""

    name: str
    state: FindingState
    text: str
    fix: str = ""
    is_needed: bool = True
    """whether Studio needs it"""


class ConnectResult(BaseModel):
    """Result of the probe, and the connection if the model can be used."""

    connection: str | None = None
    """secret id, for the header Pixel-Reasoner-Connection; null if the model cannot be used"""
    model: str = ""
    findings: list[Finding]
    models: list[str] = Field(default_factory=list)
    """models that the server lists"""


class Disconnected(BaseModel):
    """Confirmation."""

    disconnected: Literal[True] = True


class _Words(BaseModel):
    yes: str
    no: str
    unknown: str
    fix: str = ""
    """if the state is `no`"""
    fix_unknown: str = ""
    is_needed: bool = False


_WORDS: Mapping[str, _Words] = {
    "pictures": _Words(
        yes="It receives pictures.",
        no="It receives no pictures: a question with a picture is refused, or the picture is dropped.",
        unknown="Unknown whether it receives pictures: a red and a blue picture got the same reply.",
        fix="Serve a model with image input. With llama.cpp, start the server with --mmproj FILE.",
        fix_unknown="Ask about a picture, and check whether the answer is about it.",
        is_needed=True,
    ),
    "tool_pictures": _Words(
        yes="It also receives pictures in tool messages.",
        no="It receives no pictures in tool messages. Crops are sent in messages of the user, so nothing is missing.",
        unknown="Unknown whether it receives pictures in tool messages. They are not needed here.",
    ),
    "seeds": _Words(
        yes="It uses the random seed: repeated questions can be reproduced.",
        no="It ignores the random seed: repeated questions give other answers each time.",
        unknown="Unknown whether it uses the random seed.",
    ),
    "logprobs": _Words(
        yes="It returns log-probabilities.",
        no="It returns no log-probabilities. They are not needed here.",
        unknown="Unknown whether it returns log-probabilities. They are not needed here.",
    ),
}


def findings_of(probe: Probe) -> list[Finding]:
    """Return the result of a probe in plain words.

    >>> [one.state for one in findings_of(Probe(pictures=True, seeds=False))]
    ['yes', 'unknown', 'no', 'unknown']
    """
    return [_finding(name, getattr(probe, name), words) for name, words in _WORDS.items()]


def _finding(name: str, value: bool | None, words: _Words) -> Finding:
    found = Finding(name=name, state="yes", text=words.yes, is_needed=words.is_needed)
    if value:
        return found
    if value is None:
        changed = {"state": "unknown", "text": words.unknown, "fix": words.fix_unknown}
    else:
        changed = {"state": "no", "text": words.no, "fix": words.fix}
    return found.model_copy(update=changed)
