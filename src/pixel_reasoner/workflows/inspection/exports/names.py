"""Flat file names for the ids of photos."""

from __future__ import annotations

import hashlib

from pixel_reasoner.files import file_name


def flat_name(id_: str) -> str:
    """Return a file stem for the id of a photo; different ids have different stems.

    >>> flat_name("test/hole/000.png")
    'test__hole__000_png'
    """
    plain = id_.replace("/", "__").replace(".", "_")
    is_reversible = "__" not in id_ and "_" not in id_.replace("/", "")
    if file_name(plain) == plain and is_reversible:
        return plain
    digest = hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = "".join(c if c.isalnum() or c in "_-" else "_" for c in plain)[:60]
    return f"{kept}-{digest}"
