"""Files of strips and animations: the alt text in their metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from PIL import PngImagePlugin


class WrittenPicture(NamedTuple):
    """Result of writing a strip or an animation."""

    out: Path
    alt_text: str
    """description of the steps; the file contains it too"""
    notes: tuple[str, ...] = ()
    """what is not shown: pictures that cannot be opened, characters without a font"""


def save_options(path: Path, alt: str) -> dict[str, Any]:
    """Return the options of `Image.save` for a file with an alt text in its metadata.

    PNG: iTXt `Description`. JPEG and WebP: XMP `dc:description`. GIF: comment, in UTF-8.
    """
    match path.suffix.lower():
        case ".png":
            info = PngImagePlugin.PngInfo()
            info.add_itxt("Description", alt)
            return {"format": "PNG", "pnginfo": info}
        case ".gif":
            return {"format": "GIF", "comment": alt.encode()}
        case ".webp":
            return {"format": "WEBP", "quality": 88, "method": 4, "xmp": _xmp(alt)}
        case _:
            return {"format": "JPEG", "quality": 92, "subsampling": 0, "xmp": _xmp(alt)}


def _xmp(alt: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(alt)}</rdf:li></rdf:Alt>'
        "</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
