"""Run folders: trace logs and response caches."""
