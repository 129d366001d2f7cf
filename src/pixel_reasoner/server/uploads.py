"""Uploaded files: `/v1/files` stores a file and returns an id that only the same key can use."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

from pixel_reasoner.media.store import MediaRef
from pixel_reasoner.server.errors import ApiError

_PREFIX = "file-"
_ID_CHARS = 32


@dataclass(frozen=True)
class Upload:
    """Uploaded file."""

    id: str
    client: str
    kind: Literal["image", "video"]
    ref: MediaRef
    created: int

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.ref.num_bytes,
            "created_at": self.created,
            "filename": f"{self.kind}{self.ref.suffix}",
            "purpose": "vision",
            "status": "processed",
        }


class Uploads:
    """Index of uploaded files, in memory. Used from the event loop only."""

    def __init__(self, max_per_client: int) -> None:
        self.max_per_client = max_per_client
        self._by_client: dict[str, dict[str, Upload]] = {}
        """client -> its files by id, oldest first"""

    @staticmethod
    def is_id(text: str) -> bool:
        """Return whether a text has the form of an id."""
        rest = text.removeprefix(_PREFIX)
        return rest != text and len(rest) == _ID_CHARS and rest.isalnum() and rest.isascii()

    def add(self, client: str, kind: Literal["image", "video"], ref: MediaRef) -> Upload:
        """Add a file and return its id, which cannot be guessed."""
        id = _PREFIX + secrets.token_hex(_ID_CHARS // 2)
        own = self._by_client.setdefault(client, {})
        upload = own[id] = Upload(id, client, kind, ref, int(time.time()))
        while len(own) > self.max_per_client:
            del own[next(iter(own))]
        return upload

    def get(self, id: str, client: str) -> tuple[Literal["image", "video"], MediaRef]:
        """Return the kind and the file of an id.

        Raises:
            ApiError: 404 for an unknown id or a file of another client.
        """
        upload = self.find(id, client)
        return upload.kind, upload.ref

    def find(self, id: str, client: str) -> Upload:
        """Return an upload of a client.

        Raises:
            ApiError: 404 for an unknown id or a file of another client.
        """
        upload = self._by_client.get(client, {}).get(id)
        if upload is None:
            raise ApiError(404, "there is no file with this id", code="file_not_found")
        return upload

    def of_client(self, client: str) -> list[Upload]:
        """Return the files of a client, newest first."""
        return list(reversed(self._by_client.get(client, {}).values()))

    def remove(self, id: str, client: str) -> None:
        """Forget a file of a client.

        Raises:
            ApiError: 404.
        """
        self.find(id, client)
        del self._by_client[client][id]
