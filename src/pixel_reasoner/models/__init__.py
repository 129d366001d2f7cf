"""Models: local engine, remote servers and scripted replies behind one interface."""
