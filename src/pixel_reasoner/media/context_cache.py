"""Cache of opened media: rollouts and traces about the same media decode them once."""

from __future__ import annotations

import threading
from collections import OrderedDict

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits, PixelBudgets

_Key = tuple[tuple[MediaItem, ...], PixelBudgets, MediaLimits]


class MediaCache:
    """Contexts of the media that were used last, least recently used first.

    Args:
        max_entries: contexts that are kept open.
    """

    def __init__(self, max_entries: int = 1) -> None:
        self.max_entries = max_entries
        self._contexts: OrderedDict[_Key, MediaContext] = OrderedDict()
        self._lock = threading.Lock()

    def open(
        self, question: Question, budgets: PixelBudgets, limits: MediaLimits = DEFAULT_MEDIA_LIMITS
    ) -> MediaContext:
        """Return a context of the question's media in which no operation was executed.

        Raises:
            InputError: a medium cannot be used.
        """
        key = (question.media, budgets, limits)
        with self._lock:
            context = self._contexts.pop(key, None) or MediaContext(question, budgets, limits)
            self._contexts[key] = context
            while len(self._contexts) > self.max_entries:
                self._contexts.popitem(last=False)
        fresh = context.fresh()
        fresh.question = question
        return fresh
