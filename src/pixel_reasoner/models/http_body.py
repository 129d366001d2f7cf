"""Size-limited reading of response bodies, including after decompression.

Text is decoded as UTF-8, ignoring the charset of the header, because JSON is always UTF-8 (RFC 8259).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pixel_reasoner.models.openai_schema import ServerError

if TYPE_CHECKING:
    from httpx2 import Response

MAX_REPLY_BYTES = 32 * 2**20
"""maximum size of a reply, about 80,000 streamed tokens"""
MAX_ERROR_BYTES = 64 * 2**10
"""maximum size of an error response; messages contain only its start"""


def body_chunks(response: Response, max_bytes: int = MAX_REPLY_BYTES) -> Iterator[bytes]:
    """Yield a body in chunks of at most 1 MiB.

    Raises:
        ServerError: larger than `max_bytes`, or compressed more than once, which could multiply its size.
    """
    if "," in response.headers.get("content-encoding", ""):
        raise ServerError("a reply that is compressed more than once")
    size = 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise ServerError(f"a reply of more than {max_bytes / 2**20:g} MiB")
        yield chunk


def read_body(response: Response, max_bytes: int = MAX_REPLY_BYTES) -> bytes:
    """Return a body.

    Raises:
        ServerError: see `body_chunks`.
    """
    return b"".join(body_chunks(response, max_bytes))


def read_beginning(response: Response) -> str:
    """Return the start of a body, for an error message."""
    found = bytearray()
    try:
        for chunk in body_chunks(response, 2 * MAX_ERROR_BYTES):
            found += chunk
            if len(found) >= MAX_ERROR_BYTES:
                break
    except ServerError:
        pass  # the data before the error is sufficient
    return found[:MAX_ERROR_BYTES].decode("utf-8", "replace")


def text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    r"""Yield lines of text. Lines end with \n or \r\n, as in server-sent events.

    >>> list(text_lines([b"a\r", b"\nb", b"c\n", b"d"]))
    ['a', 'bc', 'd']
    """
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        if b"\n" in chunk:  # search only the new chunk, so that a long line takes linear time
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")
    if buffer:
        yield buffer.removesuffix(b"\r").decode("utf-8", "replace")
