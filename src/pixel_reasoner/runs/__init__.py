"""Run folders: the store of a run, the layout of its folder, and the cache of responses."""
