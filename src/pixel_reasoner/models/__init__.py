"""Models: local engine, remote servers and scripted replies with a common interface."""
