"""Conversations of the API: rollouts with instructions of the client and with earlier questions, and their memory."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Messages
from pixel_reasoner.rollout.budgets import open_context
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import PixelBudgets, RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Turn

MAX_KEPT = 48
"""conversations that are kept; fewer than the scheduler keeps (`MAX_KEPT_CONVERSATIONS`)"""


class Prompt(NamedTuple):
    """Dialect and pixel budgets of a request."""

    dialect: str
    budgets: PixelBudgets | None


class Exchange(NamedTuple):
    """Question of a conversation with its files, and the reply of the model if it is not the last one."""

    text: str
    items: tuple[MediaItem, ...]
    reply: str = ""


class ChatRollout(Rollout):
    """Rollout whose system message also contains instructions of the client."""

    system: str = ""

    def messages(self) -> Messages:
        """Return the conversation so far as chat messages with pixels."""
        messages = super().messages()
        return self.dialect.with_system(messages, self.system) if self.system else messages


@dataclass(frozen=True)
class Opening:
    """Everything that a rollout starts from. Calling it opens media, so it runs in a worker thread."""

    id: str
    client: str
    prompt: Prompt
    config: RolloutConfig
    system: str
    exchanges: tuple[Exchange, ...]
    """the last one is the question"""

    @property
    def question(self) -> Question:
        """The last question, with its own media."""
        last = self.exchanges[-1]
        return Question(id=self.id, text=last.text, media=last.items)

    def __call__(self, cache: MediaCache) -> Rollout:
        """Return the rollout.

        Raises:
            InputError: an unusable media item.
        """
        first = self.exchanges[0]
        question = Question(id=self.id, text=first.text, media=first.items)
        budgets = self.prompt.budgets or get_dialect(self.prompt.dialect).budgets
        context = open_context(cache, question, budgets, self.config)
        rollout: Rollout = ChatRollout(question, self.prompt, self.config, context)
        assert isinstance(rollout, ChatRollout)
        rollout.system = self.system
        for past, following in pairwise(self.exchanges):
            rollout.turns, rollout.stop = [Turn(text=past.reply)], StopReason.ANSWERED
            next_question = Question(id=self.id, text=following.text, media=following.items)
            rollout = rollout.next_exchange(next_question, self.config)
        return rollout

    def continued(self, before: Rollout) -> Callable[[MediaCache], Rollout]:
        """Return a function that continues a finished rollout, with its results of operations."""
        return lambda cache: before.fork().next_exchange(self.question, self.config)


def conversation_key(
    client: str, prompt: Prompt, system: str, operations: Sequence[str], past: Sequence[Exchange]
) -> str:
    """Return a digest of a conversation up to its last reply. Files are named by their content."""
    turns = [
        (one.text, [item.path for item in one.items], " ".join(one.reply.split())) for one in past
    ]
    budgets = prompt.budgets.model_dump(mode="json") if prompt.budgets else None
    values = [client, prompt.dialect, budgets, system, list(operations), turns]
    return hashlib.sha256(json.dumps(values, ensure_ascii=True).encode()).hexdigest()


@dataclass
class Kept:
    """Finished conversation."""

    request_id: str
    rollout: Rollout
    num_px: int
    is_continued: bool = False
    """whether another request continues it in the scheduler"""


class ConversationMemory:
    """LRU memory of finished conversations, bounded by number and decoded pixels. Used from the event loop only.

    Args:
        max_px: decoded pixels of all conversations.
        release: called with the request id of each conversation that is dropped.
    """

    def __init__(self, max_px: int, release: Callable[[str], None]) -> None:
        self.max_px = max_px
        self._release = release
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: str) -> Kept | None:
        """Return a conversation and mark it as used."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def add(self, key: str, request_id: str, rollout: Rollout) -> None:
        """Keep a conversation."""
        self._drop(key)
        self._kept[key] = Kept(request_id, rollout, rollout.context.media.num_open_px)
        while self._kept and (
            len(self._kept) > MAX_KEPT
            or sum(one.num_px for one in self._kept.values()) > self.max_px
        ):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._release(kept.request_id)
