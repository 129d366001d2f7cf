"""MCP at `/mcp` of the HTTP server: handles of a key, admission, metrics, cancellation, and paths that clients try."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time

import httpx2
import pytest

pytest.importorskip("mcp")

from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from mcp_servers import ERAS, handle, text
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.auth import Key
from pixel_reasoner.server.mcp_part import McpPart
from server_fixture import chat, data_url, serving, wait_until
from test_scheduler import CLOSER, RED
from test_server_load import EndlessModel, raw_request

KEYS = {name: f"{name}-key-0123456789" for name in ("alice", "bob")}
AUTH_KEYS = tuple(Key(hashlib.sha256(key.encode()).digest(), name) for name, key in KEYS.items())


def with_key(server, name, use, mode="auto"):
    """Connect with a key, and return the result of `use`."""

    async def run():
        headers = {"Authorization": f"Bearer {KEYS[name]}"} if name else {}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(f"{server.url}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await use(client)

    return asyncio.run(run())


def metric(server, name: str, headers=None) -> float:
    """Return the sum of all series of a metric."""
    shown = server.get("/metrics", headers=headers).text
    pattern = rf"^pixel_reasoner:{re.escape(name)}{{.*}} (.*)$"
    return sum(map(float, re.findall(pattern, shown, re.MULTILINE)))


@pytest.mark.parametrize("mode", [ERAS[0], ERAS[-1]])
def test_handles_and_traces_of_a_key_are_unknown_to_another(photo, mode):
    url = data_url(photo)
    with serving(ScriptedModel([CLOSER, RED]), keys=AUTH_KEYS, parts=[McpPart()]) as server:

        async def open_and_ask(client):
            opened = handle(await client.call_tool("open_media", {"media": url}))
            arguments = {"media": opened, "box": [0, 0, 0.5, 0.5]}
            region = handle(await client.call_tool("zoom_in", arguments))
            asked = {"question": "Which?", "media": opened}
            answer = await client.call_tool("ask", asked)
            return opened, region, answer.structured_content["trace_id"]

        opened, region, trace = with_key(server, "alice", open_and_ask, mode)

        async def use_others(client):
            refused = []
            for known in (opened, region):
                for tool, arguments in (
                    ("open_media", {"media": known}),
                    ("zoom_in", {"media": known, "box": [0, 0, 1, 1]}),
                    ("ask", {"question": "Which?", "media": known}),
                ):
                    refused.append(await client.call_tool(tool, arguments))
                with pytest.raises(MCPError):
                    await client.read_resource(f"picture://{known}")
            with pytest.raises(MCPError):
                await client.read_resource(f"trace://{trace}")
            own = handle(await client.call_tool("open_media", {"media": url}))
            return refused, own

        refused, own = with_key(server, "bob", use_others, mode)
        assert all(one.is_error and "there is no open media" in text(one) for one in refused)
        assert own != opened

        async def use_own(client):
            zoomed = await client.call_tool("zoom_in", {"media": region, "box": [0, 0, 1, 1]})
            record = await client.read_resource(f"trace://{trace}")
            picture = await client.read_resource(f"picture://{region}")
            return zoomed, record, picture

        zoomed, record, picture = with_key(server, "alice", use_own, mode)
        assert not zoomed.is_error, text(zoomed)
        assert record.contents
        assert picture.contents


def test_a_session_cannot_be_used_with_another_key():
    with serving(ScriptedModel([RED]), keys=AUTH_KEYS, parts=[McpPart()]) as server:
        start = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
        headers = {"Accept": "application/json, text/event-stream"}
        alice, bob = (headers | {"Authorization": f"Bearer {key}"} for key in KEYS.values())
        reply = server.post("/mcp", start, headers=alice)
        session = {"Mcp-Session-Id": reply.headers["mcp-session-id"]}
        listed = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        assert server.post("/mcp", listed, headers=bob | session).status_code == 404
        assert server.post("/mcp", listed, headers=alice | session).status_code == 200


async def ask(client, **fields):
    return await client.call_tool("ask", {"question": "Which?"} | fields)


def test_questions_are_counted_in_metrics(photo):
    with serving(ScriptedModel([CLOSER, RED]), parts=[McpPart()]) as server:
        with_key(server, "", lambda client: ask(client, media=data_url(photo)))
        assert metric(server, "request_success_total") == 1
        assert metric(server, "e2e_request_latency_seconds_count") == 1
        assert metric(server, "request_queue_time_seconds_count") == 1
        assert metric(server, "operations_total") == 1
        assert metric(server, "http_request_duration_seconds_count") > 0
        assert 'route="/mcp"' in server.get("/metrics").text
        assert server.services.admission.num_requests == 0
        assert server.services.admission.by_client == {}


def test_questions_take_part_in_admission(photo):
    with serving(EndlessModel(), max_running=1, max_waiting=0, parts=[McpPart()]) as server:
        held = raw_request(server, chat("Which?", photo))
        wait_until(lambda: server.services.admission.num_requests == 1)
        refused = with_key(server, "", lambda client: ask(client, media=data_url(photo)))
        assert refused.is_error
        assert "1 requests are in progress or waiting, the limit is 1; ask again in" in text(
            refused
        )
        held.close()
        wait_until(lambda: server.services.admission.num_requests == 0)

        async def ask_and_look(client):
            task = asyncio.ensure_future(ask(client, media=data_url(photo), time_limit_s=2.0))
            while server.services.admission.num_requests == 0:
                await asyncio.sleep(0.01)
            reply = await asyncio.to_thread(server.post, "/v1/chat/completions", chat("x", photo))
            return reply.status_code, await task

        status, late = with_key(server, "", ask_and_look)
        assert status == 429
        assert "no answer within 2 s" in text(late)
        assert server.services.admission.num_requests == 0
        assert server.services.admission.picture_tokens == 0


def test_the_end_of_the_server_cancels_a_question(photo):
    with serving(EndlessModel(), parts=[McpPart()], drain_timeout_s=0.3) as server:

        async def ask_and_stop(client):
            task = asyncio.ensure_future(ask(client, media=data_url(photo)))
            while server.num_unfinished == 0:
                await asyncio.sleep(0.01)
            started = time.monotonic()
            server.server.handle_exit(15, None)
            found = await task
            return found, time.monotonic() - started

        found, seconds = with_key(server, "", ask_and_stop)
        assert found.is_error
        assert seconds < 4
