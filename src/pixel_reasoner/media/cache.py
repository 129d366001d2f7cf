"""LRU cache of decoded media, shared by rollouts and questions about the same files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.decoder import IN_PROCESS, MediaDecoder
from pixel_reasoner.media.pixels import OpenMedia
from pixel_reasoner.media.remote_media import remote_version
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits, PixelBudgets
from pixel_reasoner.schema.trace import FrameSampling


@dataclass
class _Entry:
    lock: Lock = field(default_factory=Lock)
    """held while the media are opened"""
    media: OpenMedia | None = None


class MediaCache:
    """LRU cache of opened media, bounded by number of entries and by decoded pixels.

    Files that changed on disk are opened again. In a folder of frames only added and removed files are detected. All
    methods are thread-safe. Concurrent requests for the same media open them once.

    >>> from pixel_reasoner.media.context import UNSCALED
    >>> cache, question = MediaCache(), Question(id="1", text="What is it?", media=())
    >>> cache.open(question, UNSCALED).media is cache.open(question, UNSCALED).media
    True
    """

    def __init__(
        self,
        max_entries: int = 32,
        max_px: int = 300_000_000,
        decoder: MediaDecoder = IN_PROCESS,
    ) -> None:
        """Create an empty cache.

        Args:
            max_entries: number of sets of media.
            max_px: decoded pixels of all entries, four bytes each; the most recent entry is always kept.
            decoder: decodes in this process or in workers.
        """
        self.max_entries = max_entries
        self.max_px = max_px
        self.decoder = decoder
        self._lock = Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def open(
        self,
        question: Question,
        budgets: PixelBudgets,
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
        sampling: Iterable[FrameSampling] = (),
    ) -> MediaContext:
        """Return a context of the media of a question, without results of operations.

        Args:
            question: with media.
            budgets: pixel budgets of pictures in the prompt.
            limits: on untrusted media.
            sampling: recorded sampling of videos and folders, for a replay.

        Raises:
            InputError: an unusable media item.
            StorageError: an object store does not answer, or rejects the credentials.
        """
        recorded = tuple(sampling)
        files = tuple(map(_media_state, question.media))
        allowed = tuple(item.allowed_folders for item in question.media)
        key = (question.media, allowed, files, limits, recorded)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        media = self._opened(key, entry, question, limits, recorded)
        self._evict()
        return MediaContext(question, budgets, media=media)

    def clear(self) -> None:
        """Remove all entries. Contexts in use keep their media."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def _opened(
        self,
        key: Hashable,
        entry: _Entry,
        question: Question,
        limits: MediaLimits,
        sampling: tuple[FrameSampling, ...],
    ) -> OpenMedia:
        with entry.lock:
            if entry.media is None:
                try:
                    entry.media = OpenMedia(question.media, limits, self.decoder, sampling)
                except BaseException:
                    with self._lock:
                        self._entries.pop(key, None)
                    raise
            return entry.media

    def _evict(self) -> None:
        with self._lock:
            num_px = {
                key: entry.media.num_open_px if entry.media else 0
                for key, entry in self._entries.items()
            }
            total_px = sum(num_px.values())
            while len(self._entries) > 1 and (
                len(self._entries) > self.max_entries or total_px > self.max_px
            ):
                key, _ = self._entries.popitem(last=False)
                total_px -= num_px[key]


def _media_state(item: MediaItem) -> Hashable:
    """Return what changes with the content of a media item."""
    return remote_version(item) if is_url(item.path) else _file_state(Path(item.path))


def _file_state(path: Path) -> tuple[int, int] | None:
    """Return the modification time and the size of a file; None if it does not exist."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size
