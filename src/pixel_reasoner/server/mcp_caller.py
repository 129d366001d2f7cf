"""Clients of the MCP server, and what happens before and after their questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple

from mcp.server.mcpserver import Context

from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.trace import Trace


class Caller(NamedTuple):
    """Client that calls a tool."""

    owner: str = ""
    """name of its key; handles and traces of other clients are unknown to it. Empty over stdio"""
    scope: Mapping[str, Any] = MappingProxyType({})
    """ASGI scope of its HTTP request; empty over stdio"""


LOCAL_CALLER = Caller()
"""the only client over stdio"""


def caller_of(ctx: Context[Any, Any]) -> Caller:
    """Return the client of a tool call. Over HTTP every call has the key of its own request, also within a session."""
    request = ctx.request_context.request
    if request is None:
        return LOCAL_CALLER
    return Caller(request.scope.get("state", {}).get("client", ""), request.scope)


class Gate:
    """Admission and accounting of questions. This one admits all of them; a server replaces it.

    >>> with Gate().admit(LOCAL_CALLER):
    ...     pass
    """

    def admit(self, caller: Caller) -> AbstractContextManager[object]:
        """Return a context in which a question is in progress. Called before its media are decoded.

        Raises:
            ToolError: the server is full.
        """
        return nullcontext()

    def admit_media(
        self, caller: Caller, media: Sequence[MediaItem], num_frames: int
    ) -> AbstractContextManager[object]:
        """Return a context in which media are part of a prompt.

        Raises:
            ToolError: too many picture tokens are in progress.
        """
        return nullcontext()

    def ended(self, trace: Trace) -> None:
        """Count a question that has an answer or a reason for none."""
