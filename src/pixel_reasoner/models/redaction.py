"""Redaction of secrets in texts of servers and URLs, before they are used in an error, a trace or the terminal.

A secret is detected complete, truncated, percent-encoded, hexadecimal, as JSON escapes, or in base64 at any offset.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from urllib.parse import quote

MIN_PIECE_CHARS = 8
"""Shorter pieces of a secret may occur by chance. Shorter keys are placeholders, such as `none`."""
MARK = "…"


class Redactor:
    """Redactor of every piece of a secret of at least `MIN_PIECE_CHARS` characters.

    >>> redact = Redactor(["sk-0123456789"])
    >>> redact("key sk-0123456789, c2stMDEyMzQ1Njc4OQ== or 0123456")
    'key …, …Q== or 0123456'
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.forms = sorted({form for one in secrets for form in _forms(one)})
        self._pieces = {
            form[start : start + MIN_PIECE_CHARS]
            for form in self.forms
            for start in range(len(form) - MIN_PIECE_CHARS + 1)
        }

    def __call__(self, text: str) -> str:
        """Return a text with secrets replaced by `MARK`."""
        shown, end = [], 0
        for start, stop in self.spans(text):
            shown += [text[end:start], MARK]
            end = stop
        return "".join([*shown, text[end:]]) if end else text

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of each span that consists of pieces of secrets."""
        if not self._pieces:
            return
        start = end = -1
        for place in range(len(text) - MIN_PIECE_CHARS + 1):
            if text[place : place + MIN_PIECE_CHARS] not in self._pieces:
                continue
            if place >= end:
                if end > 0:
                    yield start, end
                start = place
            end = place + MIN_PIECE_CHARS
        if end > 0:
            yield start, end

    def num_pending_chars(self, text: str) -> int:
        """Return the length of the longest suffix that is a piece of a secret, which further text may complete."""
        length = 0
        while length < len(text) and any(text[-length - 1 :] in form for form in self.forms):
            length += 1  # a suffix of a piece is a piece
        return length


class StreamRedactor:
    """Streaming redactor. Holds back a suffix of the text while it may be the start of a secret.

    >>> stream = StreamRedactor(Redactor(["sk-0123456789"]))
    >>> [stream.add(one) for one in ("a sk-01", "234567", "89!")], stream.finish()
    (['a ', '', '…!'], '')
    """

    def __init__(self, redact: Redactor) -> None:
        self.redact = redact
        self._held = ""

    def add(self, text: str) -> str:
        """Add a piece of text and return the text that is safe to show."""
        if not self.redact.forms:
            return text
        text = self._held + text
        cut = len(text) - self.redact.num_pending_chars(text)
        for start, end in self.redact.spans(text):
            if start < cut < end:  # the suffix of one secret may be the prefix of another
                cut = start
        self._held = text[cut:]
        return self.redact(text[:cut])

    def finish(self) -> str:
        """Return the held-back text, redacted."""
        rest, self._held = self.redact(self._held), ""
        return rest


def _forms(secret: str) -> Iterator[str]:
    """Yield all encodings of a secret in which servers may repeat it; nothing for a placeholder."""
    if len(secret) < MIN_PIECE_CHARS:
        return
    data = secret.encode("utf-8", "replace")
    yield secret
    yield quote(secret, safe="")
    for code in ("%{:02X}", "%{:02x}", "\\u{:04x}"):
        yield "".join(map(code.format, data))
    yield from (data.hex(), data.hex().upper())
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + data).decode().rstrip("=")
        inner = encoded[(0, 2, 3)[offset] : -1]  # the outer characters depend on adjacent bytes
        yield from (inner, inner.replace("+", "-").replace("/", "_"))
