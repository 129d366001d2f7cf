"""Visual operations: typed functions that return new images."""
