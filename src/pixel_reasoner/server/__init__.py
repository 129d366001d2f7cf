"""Servers: the MCP server and the HTTP server. Needs the extra `serve`."""
