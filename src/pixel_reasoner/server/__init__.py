"""HTTP server and MCP server. Both need the extra `serve`.

The HTTP server is an OpenAI-compatible API over one rollout scheduler:

    app          create_app: routes, middleware, start and end of the scheduler
    chat         request of a client → ChatJob (messages, media, settings); responses.py uses the same ChatJob
    engine       ChatJob → events and results of the scheduler; cancellation
    stream       events → SSE
    spans        requests, turns and operations → OpenTelemetry, with the extra `otel`

Other parts are mounted by `create_app(..., parts=[...])`. The modules `mcp_*` are the MCP server, over stdio or mounted.
"""
