"""Cached output of the finished vision tower for every picture of every trace, in a file.

The tower is frozen in the last stage: training only the language model on cached tokens is several times faster.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import track

from pixel_reasoner.data.parallel import map_in_order
from pixel_reasoner.evals.run import TRACES
from pixel_reasoner.files import atomic_path
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.trace import Picture, Trace
from pixel_reasoner.tiny.labels import CELL_PX
from pixel_reasoner.tiny.precision import mixed_precision
from pixel_reasoner.tiny.tower import embed

TOWER_BATCH_PX = 64 * 192**2
"""pixels per batch of the tower"""
CUTTING_WORKERS = 2
"""processes that cut the pictures of traces: the tower is slower than two of them"""


class VisualTokens(NamedTuple):
    """Output of the tower for all pictures of one size."""

    final: torch.Tensor
    """(pictures, tokens, width) bfloat16"""
    early: torch.Tensor
    """output of an earlier layer (deepstack), same shape"""


class PromptImage(NamedTuple):
    """Picture of an example: its position in the cache."""

    size: Size
    row: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of visual tokens."""
        return self.size[1] // CELL_PX, self.size[0] // CELL_PX


class TraceIndex:
    """Index of a trace file, with the cache positions of each trace's pictures. Traces are loaded one at a time.

    Args:
        path: the JSONL file.
        offsets: byte offset of each trace.
        rows: for each trace, (size number, row) of each picture.
        sizes: size number -> width and height in pixels.
    """

    def __init__(
        self, path: Path, offsets: list[int], rows: list[list[tuple[int, int]]], sizes: list[Size]
    ) -> None:
        self.offsets = offsets
        self.rows = rows
        self.sizes = sizes
        self._file = path.open("rb")
        self.families: dict[str, list[int]] = {}
        """family -> trace numbers"""
        self.overviews: dict[str, list[int]] = {}
        """family -> numbers of the traces whose question needs no operation"""
        for number, offset in enumerate(offsets):
            line = self._line(offset)
            family, _ = _parse_scene(line)
            self.families.setdefault(family, []).append(number)
            if '"needs_look":false' in line:
                self.overviews.setdefault(family, []).append(number)

    def trace(self, number: int) -> Trace:
        """Return one trace."""
        return Trace.from_line(self._line(self.offsets[number]))

    def images(self, number: int) -> list[PromptImage]:
        """Return the pictures of a trace, in order."""
        return [PromptImage(self.sizes[size], row) for size, row in self.rows[number]]

    def _line(self, offset: int) -> str:
        self._file.seek(offset)
        return self._file.readline().decode()


class TokenCache(NamedTuple):
    """Tower output for all pictures of some traces, each picture once."""

    traces: TraceIndex
    tokens: dict[Size, VisualTokens]


def cache_tokens(visual: Any, image_processor: Any, traces: Path, path: Path) -> TokenCache:
    """Return the tower output for every picture of some traces, from a cache file that is created if missing.

    Args:
        visual: vision tower.
        image_processor: image processor of the model.
        traces: folder of synthesized traces.
        path: cache file. A digest of the traces and the tower is added to its name, so that it is never used for
        others.
    """
    path = path.with_stem(f"{path.stem}-{_digest(visual, traces / TRACES)}")
    if not path.exists():
        _write_cache(visual, image_processor, traces / TRACES, path)
    content = torch.load(path, weights_only=True)
    sizes = [tuple(size) for size in content["sizes"]]
    index = TraceIndex(traces / TRACES, content["offsets"], content["rows"], sizes)
    pairs = zip(sizes, content["tokens"], strict=True)
    return TokenCache(index, {size: VisualTokens(*pair) for size, pair in pairs})


def _digest(visual: Any, traces: Path) -> str:
    with traces.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for weights in visual.state_dict().values():
        digest.update(weights.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _write_cache(visual: Any, image_processor: Any, traces: Path, path: Path) -> None:
    with traces.open(encoding="utf-8") as file:
        lines = file.readlines()
    offsets = list(accumulate((len(line.encode()) for line in lines), initial=0))[:-1]
    batcher = _TowerBatcher(visual, image_processor)
    rows: list[list[tuple[int, int]]] = []
    # Traces about one scene are adjacent, so a picture that they share is cached once.
    scenes = [list(group) for _, group in groupby(lines, _parse_scene)]
    cut = map_in_order(partial(_scene_pictures, folder=traces.parent), scenes, CUTTING_WORKERS)
    for pictures, numbers in track(cut, "tokens", len(scenes)):
        places = [batcher.add(pixels) for pixels in pictures]
        rows += [[places[number] for number in of_trace] for of_trace in numbers]
    content = {
        "sizes": [list(size) for size in batcher.sizes],
        "offsets": offsets,
        "rows": rows,
        "tokens": batcher.tokens(),
    }
    with atomic_path(path, RuntimeError) as part:
        torch.save(content, part)


def _scene_pictures(lines: list[str], folder: Path) -> tuple[list[np.ndarray], list[list[int]]]:
    """Return the distinct pictures of a scene's traces, and the picture numbers of each trace."""
    numbers: dict[Any, int] = {}
    pictures: list[np.ndarray] = []
    of_traces = []
    opened: MediaContext | None = None
    for trace in map(Trace.from_line, lines):
        if opened is None:
            question = with_media_root(trace.question, folder)
            opened = MediaContext.of_trace(trace.model_copy(update={"question": question}))
        context = opened.replay(trace)
        keys = [_picture_key(one) for one in context.pictures]
        for number, key in enumerate(keys, start=1):
            if key not in numbers:
                numbers[key] = len(pictures)
                pictures.append(np.asarray(context.view(number)))
        of_traces.append([numbers[key] for key in keys])
    return pictures, of_traces


def _picture_key(picture: Picture) -> tuple[object, ...]:
    """Return what determines the pixels of a picture, besides the media of its trace."""
    more = "" if picture.is_plain_region else picture.model_dump_json(exclude={"number", "parent"})
    return picture.frame, picture.box, picture.seen_px, more


def _parse_scene(line: str) -> tuple[str, str]:
    """Return family and seed of a trace's scene."""
    found = re.search(r'"id":"((?:w2-)?\w+)-(\d+)-', line)
    assert found is not None, "ids of PixelWorld traces start with family and seed"
    return found[1], found[2]


class _TowerBatcher:
    """Batcher that collects pictures of one size until they fill a batch of the tower."""

    def __init__(self, visual: Any, image_processor: Any) -> None:
        self.visual = visual
        self.image_processor = image_processor
        self.sizes: list[Size] = []
        self.waiting: list[list[np.ndarray]] = []
        self.done: list[list[VisualTokens]] = []
        self.counts: list[int] = []

    def add(self, pixels: np.ndarray) -> tuple[int, int]:
        """Add a picture, (height, width, 3). Returns its size number and its row among pictures of this size."""
        size = pixels.shape[1], pixels.shape[0]
        if size not in self.sizes:
            self.sizes.append(size)
            self.waiting.append([])
            self.done.append([])
            self.counts.append(0)
        kind = self.sizes.index(size)
        self.waiting[kind].append(pixels)
        self.counts[kind] += 1
        if len(self.waiting[kind]) * size[0] * size[1] >= TOWER_BATCH_PX:
            self._run(kind)
        return kind, self.counts[kind] - 1

    def tokens(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the output for all pictures of each size."""
        for kind in range(len(self.sizes)):
            self._run(kind)
        return [(_joined(done, "final"), _joined(done, "early")) for done in self.done]

    def _run(self, kind: int) -> None:
        pixels = self.waiting[kind]
        if not pixels:
            return
        device = next(self.visual.parameters()).device
        with torch.no_grad(), mixed_precision(device):
            out = embed(self.visual, self.image_processor, pixels)
        shape = (len(pixels), -1, out.pooler_output.shape[-1])
        both = (out.pooler_output, out.deepstack_features[0])
        tensors = (one.to("cpu", torch.bfloat16).view(shape) for one in both)
        self.done[kind].append(VisualTokens(*tensors))
        pixels.clear()


def _joined(batches: Sequence[VisualTokens], name: str) -> torch.Tensor:
    return torch.cat([getattr(one, name) for one in batches])
