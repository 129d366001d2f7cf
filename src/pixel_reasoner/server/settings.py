"""Settings and limits of the server."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pixel_reasoner.media.worker_pool import WorkerLimits
from pixel_reasoner.rollout.strategies import SINGLE
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import MediaLimits, RolloutConfig

DEFAULT_PORT = 8008
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class ReasoningField(StrEnum):
    """Where a reply contains the thoughts of the model."""

    REASONING_CONTENT = "reasoning_content"
    REASONING = "reasoning"
    BOTH = "both"
    INLINE = "inline"
    """before the answer in `content`, without tags"""


SERVER_MEDIA_LIMITS = MediaLimits(
    max_px=64_000_000,
    max_bytes=2**28,
    max_picture_bytes=2**26,
    max_header_bytes=2**24,
    max_duration_s=3600.0,
    max_video_frames=500_000,
    max_open_px=128_000_000,
    max_decode_bytes=1_000_000_000,
)
"""limits on media of clients, stricter than those of files of the user"""


class ServerSettings(Record):
    """All settings of the server except the model and the keys."""

    host: str = "127.0.0.1"
    port: NonNegativeInt = DEFAULT_PORT
    """0 for a free port"""
    no_auth: bool = False
    """whether requests need no key although other machines reach the server"""
    allowed_hosts: tuple[str, ...] = ()
    """names in the Host header in addition to loopback names, `host` and IP addresses"""
    allowed_origins: tuple[str, ...] = ()
    """origins of web pages that may send requests, such as https://chat.example.org"""
    media_hosts: tuple[str, ...] = ()
    """hosts from which pictures are fetched; by default none"""
    endpoint_hosts: tuple[str, ...] = ()
    """hosts of model servers that users of Studio may connect; `public` for every public host"""
    store: Path | None = None
    """folder for pictures and videos of clients; by default a temporary folder"""
    max_store_bytes: PositiveInt = 4 * 2**30
    """size of the store; files that were not used for the longest time are removed"""
    max_traces_bytes: PositiveInt = 4 * 2**30
    """size of the traces with their media; the oldest ones are deleted"""
    max_traces_age_s: PositiveFloat = 30 * 86400.0
    """age of traces; older ones are deleted"""
    reasoning_field: ReasoningField = ReasoningField.REASONING_CONTENT
    config: RolloutConfig = RolloutConfig(media=SERVER_MEDIA_LIMITS)
    """operations, limits and sampling of requests that do not state them"""
    strategy: str = SINGLE
    """how rollouts become one answer to a question with pictures: its name, and options as `NAME:key=value,key=value`"""
    calibration: Path | None = None
    """file that calibrates the confidence of the strategy"""

    max_running: PositiveInt = 64
    """rollouts in progress"""
    max_waiting: NonNegativeInt = 256
    """requests that wait for a rollout to end; further requests are answered 429"""
    max_per_key: PositiveInt = 256
    """requests in progress or waiting of one key"""
    max_picture_tokens: PositiveInt = 2_000_000
    """estimated picture tokens of all requests in progress or waiting"""
    fast_lane_requests: NonNegativeInt = 16
    """additional short requests without pictures, such as for the title of a chat; they are served first"""
    fast_lane_chars: PositiveInt = 16_000
    """text of such a request"""

    max_body_bytes: PositiveInt = 32 * 2**20
    """size of a JSON request"""
    max_buffered_bytes: PositiveInt = 2**29
    """size of all requests that are being read"""
    max_upload_bytes: PositiveInt = 2**28
    """size of an uploaded file"""
    max_files_per_key: PositiveInt = 1000
    """uploaded files of one key; older ones are forgotten"""
    max_media: PositiveInt = 32
    """pictures and videos of one request, including its history"""
    max_text_chars: PositiveInt = 1_000_000
    """text of all messages of a request"""
    max_turns: PositiveInt = 16
    """largest `max_turns` of a request"""
    max_new_tokens: PositiveInt = 1024
    """largest number of tokens of one message of the model; a larger `max_tokens` has no effect"""
    max_choices: PositiveInt = 8
    """largest `n`"""
    request_timeout_s: PositiveFloat = 600.0
    """time limit of a request; beyond it the answer is 504"""
    body_timeout_s: PositiveFloat = 60.0
    """time limit for a client to send its request"""
    send_timeout_s: PositiveFloat = 60.0
    """time for a client to accept data; a client that is slower is disconnected"""
    ping_interval_s: PositiveFloat = 10.0
    """interval of comments in a stream without data"""
    fetch_timeout_s: PositiveFloat = 20.0
    """time to fetch one picture from `media_hosts`"""
    drain_timeout_s: PositiveFloat = 30.0
    """time for requests in progress after SIGTERM"""
    max_kept_px: NonNegativeInt = 12_000_000
    """decoded pixels of conversations that are kept for follow-up questions"""
    decode_workers: PositiveInt = 2
    """processes that decode media"""
    decode_limits: WorkerLimits = Field(default=WorkerLimits(timeout_s=30.0, cpu_s=30.0))

    @property
    def largest_n(self) -> int:
        """Largest `n` that the server can accept when it is idle."""
        return min(self.max_choices, self.max_per_key, self.max_running + self.max_waiting)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_NAMES
