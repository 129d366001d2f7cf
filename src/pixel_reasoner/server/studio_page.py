"""Studio at `/`: one HTML page over the trace API, and the samples that it offers.

The page is the viewer of the reports with the scripts of `studio/`. It is assembled once, contains no data, and its
Content-Security-Policy allows its own script and style by hash and requests to this server only.
"""

from __future__ import annotations

import asyncio
import io
import threading
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from PIL import Image

from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.reports.html import csp_hash, style, viewer_script
from pixel_reasoner.schema.question import Question
from pixel_reasoner.server.connect_routes import connection_routes
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.lessons import lesson_routes
from pixel_reasoner.server.openapi import error_responses
from pixel_reasoner.server.services import Services
from pixel_reasoner.workflows.lessons.page import lesson_script, lesson_style
from pixel_reasoner.workflows.world import demo_questions

SCRIPTS = (
    *("api.js", "live.js", "boxes.js", "media.js", "composer.js", "result.js", "connect.js"),
    *("side.js", "lessons.js", "studio.js"),
)
_THUMBNAIL_SIDE = 320
_TITLES = {
    "read": "Read a detail",
    "larger": "Compare two details",
    "side": "Left or right",
    "count": "Count",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Pixel Reasoner Studio</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<div id="app"><p class="loading">Loading …</p></div>
<noscript><p class="loading">Studio needs JavaScript. It loads nothing from other servers.</p></noscript>
<script>{script}</script>
</body>
</html>
"""


class Page(NamedTuple):
    """HTML and its headers."""

    text: str
    headers: dict[str, str]


@cache
def studio_page() -> Page:
    """Return the page. It is the same for every server."""
    css = f"{style(has_charts=False)}{_read('studio.css')}{lesson_style()}"
    script = viewer_script("\n".join([lesson_script(), *map(_read, SCRIPTS)]))
    policy = (
        "default-src 'none'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
        f"style-src '{csp_hash(css)}'; script-src '{csp_hash(script)}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    return Page(_PAGE.format(style=css, script=script), headers)


def _read(name: str) -> str:
    folder = resources.files(__package__) / "studio"
    return (folder / name).read_text(encoding="utf-8")


class StudioPart:
    """Part of the server with Studio. It needs the trace API.

    Args:
        is_bundled: whether the model is the bundled one, which supports PixelWorld only.
    """

    def __init__(self, *, is_bundled: bool) -> None:
        self.is_bundled = is_bundled

    def mount(self, app: FastAPI, services: Services) -> None:
        """Add the routes."""
        samples = Samples(services.root / "samples")
        page = studio_page()
        services.open_paths.add("/")  # it contains no data, and asks for the key

        @app.get(
            "/",
            response_class=HTMLResponse,
            responses=error_responses(),
            openapi_extra={"security": []},
        )
        async def studio() -> HTMLResponse:
            """Return the page of Studio. Needs no key; it asks for one."""
            return HTMLResponse(page.text, headers=page.headers)

        app.include_router(connection_routes(services))
        app.include_router(lesson_routes())
        services.lifespans.append(services.connections.lifespan)
        access = services.connections.access

        @app.get("/v1/studio", responses=error_responses())
        async def about() -> dict[str, Any]:
            """Return what Studio shows: the model, the samples, and which servers may be connected."""
            return {
                "model": services.names[0],
                "is_bundled": self.is_bundled,
                "endpoints": {"public": access.allows_public, "hosts": sorted(access.hosts)},
                "samples": await asyncio.to_thread(samples.describe),
            }

        @app.get(
            "/v1/samples/{id}/{form}",
            responses={
                200: {
                    "description": "The file.",
                    "content": {"image/png": {}, "image/webp": {}, "video/mp4": {}},
                },
                **error_responses(400, 404),
            },
            response_class=Response,
        )
        async def sample(id: str, form: str) -> Response:
            """Return the picture or clip of a sample (`media`), or a small picture of it (`thumbnail`)."""
            content, media_type = await asyncio.to_thread(samples.file, id, form)
            headers = {"Cache-Control": "private, max-age=86400"}
            return Response(content, media_type=media_type, headers=headers)


class Samples:
    """Scenes of PixelWorld that the bundled model solves. They are rendered when they are asked for.

    Args:
        folder: receives the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._by_id: dict[str, Question] = {}
        self._thumbnails: dict[str, bytes] = {}

    def describe(self) -> list[dict[str, Any]]:
        """Return the samples with their questions."""
        return [
            {
                "id": one.id,
                "title": _title(one),
                "question": one.text,
                "expected": one.answer[0],
                "media": f"/v1/samples/{one.id}/media",
                "thumbnail": f"/v1/samples/{one.id}/thumbnail",
            }
            for one in self._questions().values()
        ]

    def file(self, id: str, form: str) -> tuple[bytes, str]:
        """Return a file of a sample and its type.

        Raises:
            ApiError: 404.
        """
        question = self._questions().get(id)
        if question is None or form not in ("media", "thumbnail"):
            raise ApiError(404, "there is no sample with this name")
        if form == "thumbnail":
            return self._thumbnail(question), "image/webp"
        path = Path(question.media[0].path)
        return path.read_bytes(), "video/mp4" if path.suffix == ".mp4" else "image/png"

    def _questions(self) -> dict[str, Question]:
        with self._lock:
            if not self._by_id:
                self._by_id = {one.id: one for one in demo_questions(self.folder)}
            return self._by_id

    def _thumbnail(self, question: Question) -> bytes:
        with self._lock:
            if question.id not in self._thumbnails:
                self._thumbnails[question.id] = _thumbnail(question)
            return self._thumbnails[question.id]


def _title(question: Question) -> str:
    kind = question.category.rpartition("/")[2]
    if question.media[0].kind == "video":
        return "Find a frame of a clip"
    if "infographic" in question.id:
        return "Read a chart"
    return _TITLES.get(kind, "Look closer")


def _thumbnail(question: Question) -> bytes:
    context = MediaContext(question, UNSCALED)
    frames = question.evidence.frames if question.evidence else ()
    picture: Image.Image = context.view(context.frames[frames[0]] if frames else 1)
    small = picture.copy()
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=78, method=4)
    return buffer.getvalue()
