"""Transforms that change pixels in their place: marks, segments, contrast. One file each, registered in `media.transforms`."""
