"""XMP sidecar files: subjects, a description, and markers in the track form of Adobe's programs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from pixel_reasoner.workflows.moments.exports.cues import Cue
from pixel_reasoner.workflows.moments.exports.sequence import one_line_text

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmpDM": "http://ns.adobe.com/xmp/1.0/DynamicMedia/",
}
TICKS_PER_S = 254_016_000_000
"""unit of marker times in Adobe's programs: a frame of every usual rate is a whole number of ticks"""
_XML = "http://www.w3.org/XML/1998/namespace"


def xmp_text(cues: Iterable[Cue], creator: str = "Pixel Reasoner") -> str:
    """Return the sidecar of one video: each distinct text is a subject, each cue a marker."""
    for prefix, uri in NAMESPACES.items():
        ET.register_namespace(prefix, uri)
    found = sorted(cues)
    texts = list(dict.fromkeys(one_line_text(cue.text) for cue in found))
    root = ET.Element(_name("x:xmpmeta"), {_name("x:xmptk"): creator})
    rdf = ET.SubElement(root, _name("rdf:RDF"))
    description = ET.SubElement(rdf, _name("rdf:Description"), {_name("rdf:about"): ""})
    subjects = _list(description, "dc:subject", "rdf:Bag")
    for text in texts:
        ET.SubElement(subjects, _name("rdf:li")).text = text
    summary = _list(description, "dc:description", "rdf:Alt")
    item = ET.SubElement(summary, _name("rdf:li"), {f"{{{_XML}}}lang": "x-default"})
    item.text = f"{len(found)} moments: {'; '.join(texts)}"
    _add_track(description, found)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _add_track(description: ET.Element, cues: Iterable[Cue]) -> None:
    track = _resource(_list(description, "xmpDM:Tracks", "rdf:Bag"))
    for name, text in (
        ("trackName", "Moments"),
        ("trackType", "Comment"),
        ("frameRate", f"f{TICKS_PER_S}"),
    ):
        ET.SubElement(track, _name(f"xmpDM:{name}")).text = text
    markers = _list(track, "xmpDM:markers", "rdf:Seq")
    for cue in cues:
        marker = _resource(markers)
        values = {
            "startTime": str(_ticks(cue.start_s)),
            "duration": str(_ticks(cue.end_s) - _ticks(cue.start_s)),
            "name": one_line_text(cue.text),
            "type": "Comment",
        }
        for name, text in values.items():
            ET.SubElement(marker, _name(f"xmpDM:{name}")).text = text


def xmp_path(video: Path, *, replace_suffix: bool = False) -> Path:
    """Return the path of a sidecar: `a.mp4.xmp`, or `a.xmp` as Adobe's programs expect it.

    >>> xmp_path(Path("a.mp4")).name, xmp_path(Path("a.mp4"), replace_suffix=True).name
    ('a.mp4.xmp', 'a.xmp')
    """
    return video.with_suffix(".xmp") if replace_suffix else video.with_name(f"{video.name}.xmp")


def _list(parent: ET.Element, name: str, kind: str) -> ET.Element:
    return ET.SubElement(ET.SubElement(parent, _name(name)), _name(kind))


def _resource(parent: ET.Element) -> ET.Element:
    return ET.SubElement(parent, _name("rdf:li"), {_name("rdf:parseType"): "Resource"})


def _name(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def _ticks(time_s: Fraction) -> int:
    return round(time_s * TICKS_PER_S)
