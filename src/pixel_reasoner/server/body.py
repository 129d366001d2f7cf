"""Reading of request bodies within limits of bytes and time, before they are parsed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request

from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.settings import ServerSettings
from pixel_reasoner.strict_json import parse_json

_PARSE_IN_THREAD_BYTES = 2**20
"""Larger JSON is parsed in a thread, because parsing blocks all streams."""


class BodyReader:
    """Reader of JSON bodies and uploads. All requests together are bounded by `max_buffered_bytes`."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.num_buffered = 0

    async def json(self, request: Request) -> dict[str, Any]:
        """Return the JSON object of a request.

        Raises:
            ApiError: 413, 415, 408, 429, or 400 for a body that is no JSON object.
        """
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise ApiError(415, "Content-Type must be application/json", param="Content-Type")
        chunks: list[bytes] = []
        with self._counted() as count:
            async for chunk in self.chunks(request, self.settings.max_body_bytes):
                count(len(chunk))
                chunks.append(chunk)
            body = b"".join(chunks)
            chunks.clear()
            try:
                if len(body) > _PARSE_IN_THREAD_BYTES:
                    value = await asyncio.to_thread(parse_json, body)
                else:
                    value = parse_json(body)
            except (ValueError, RecursionError) as error:
                raise ApiError(
                    400, f"the body is not valid JSON: {error}", code="invalid_json"
                ) from None
        if not isinstance(value, dict):
            raise ApiError(400, "the body must be a JSON object", code="invalid_json")
        return value

    async def chunks(self, request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield a body piece by piece.

        Raises:
            ApiError: 413 for more than `max_bytes`, 408 if the client is slow or left.
        """
        announced = request.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > max_bytes:
            raise _too_large(max_bytes)
        num_bytes = 0
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                async for chunk in request.stream():
                    num_bytes += len(chunk)
                    if num_bytes > max_bytes:
                        raise _too_large(max_bytes)
                    if chunk:
                        yield chunk
        except TimeoutError:
            raise ApiError(
                408, f"the body did not arrive within {self.settings.body_timeout_s:g} s"
            ) from None
        except ClientDisconnect:
            raise ApiError(408, "the client disconnected") from None

    @contextmanager
    def _counted(self) -> Iterator[Any]:
        counted = 0

        def count(num_bytes: int) -> None:
            nonlocal counted
            if self.num_buffered + num_bytes > self.settings.max_buffered_bytes:
                raise ApiError(429, "too many large requests at once", retry_after_s=2.0)
            counted += num_bytes
            self.num_buffered += num_bytes

        try:
            yield count
        finally:
            self.num_buffered -= counted


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"the body is larger than {max_bytes} bytes")
