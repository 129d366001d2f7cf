"""Visual operations: typed functions that return new pictures, one file each."""
