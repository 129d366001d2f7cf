"""Lesson mode of Studio: generated lessons (`workflows.lessons`) as JSON, one at a time."""

from __future__ import annotations

import asyncio
import threading
from functools import lru_cache
from typing import Any

from fastapi import APIRouter

from pixel_reasoner.errors import UsageError
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.openapi import error_responses
from pixel_reasoner.workflows.lessons.write import generated_lesson

NUM_QUESTIONS = 6
_MAX_CACHED = 8
_lock = threading.Lock()


def lesson_routes() -> APIRouter:
    """Return the routes of lessons."""
    router = APIRouter()

    @router.get("/v1/lessons/{level}", responses=error_responses(400))
    async def lesson(level: int, seed: int = 0) -> dict[str, Any]:
        """Return a generated lesson of a level from 1 to 5. Its answers are encoded, so that they are not read by accident."""
        try:
            return await asyncio.to_thread(_payload, level, seed)
        except UsageError as error:
            raise ApiError(400, str(error)) from error

    return router


def _payload(level: int, seed: int) -> dict[str, Any]:
    with _lock:  # drawing takes a second of CPU time
        return _made(level, seed)


@lru_cache(maxsize=_MAX_CACHED)
def _made(level: int, seed: int) -> dict[str, Any]:
    return generated_lesson(level, seed, NUM_QUESTIONS).payload
