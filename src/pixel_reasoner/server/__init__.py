"""HTTP server: an OpenAI-compatible API over one rollout scheduler. Needs the extra `serve`.

    app          create_app: routes, middleware, start and end of the scheduler
    chat         request of a client → ChatJob (messages, media, settings); responses.py uses the same ChatJob
    engine       ChatJob → events and results of the scheduler; cancellation
    stream       events → SSE

Other parts of the server (traces, Studio, MCP) are mounted by `create_app(..., parts=[...])`.
"""
