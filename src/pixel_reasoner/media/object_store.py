"""Objects of S3, GCS, Azure, the hub and other file systems of fsspec: their version, and ranges of their bytes.

Reads are retried with backoff. An unreachable store, a missing bucket and rejected credentials raise `StorageError` within
`MAX_WAIT_S`, for this and, for a moment, all further objects of the bucket. Credentials come from the environment or a profile.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError, StorageError, install_command
from pixel_reasoner.media.object_errors import (
    RETRIED,
    Failure,
    bucket_of,
    failure_of,
    object_error,
)
from pixel_reasoner.schema.media_url import check_url

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 10.0
"""of one attempt of botocore"""
MAX_WAIT_S = 20.0
"""after which a request is not attempted again"""
BACKOFF_S = (0.2, 1.0, 3.0)
"""waits before further attempts"""
MAX_PART_BYTES = 2**24
"""bytes of one request"""
REQUEST_S, MAX_LIST_S, MIN_BYTES_PER_S = MAX_WAIT_S / 2, 600.0, 200_000
"""limits of a request to other stores than S3, whose libraries retry for minutes: without bytes, a list of all objects, speed"""
_DOWN_S = 10.0
"""time in which a bucket that failed is not asked again"""
_VERSION_KEYS = (
    *("ETag", "etag", "VersionId", "version_id", "generation", "md5Hash", "content_md5", "blob_id"),
    *("sha256", "lfs", "LastModified", "last_modified", "updated", "mtime", "created", "size"),
)
"""fields of `info` that change with the content, of all file systems"""
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_STORES_WITHOUT_REASON = ("gs://", "gcs://", "az://", "abfs://")
_OPTIONS_OF_S3 = {
    "config_kwargs": {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"max_attempts": 0},
    },
}


class RemoteObject(NamedTuple):
    """Object in a store, in one version."""

    url: str
    num_bytes: int
    version: str
    """hash of the URL and of what the store reports about the version"""


class _Memo(NamedTuple):
    object: RemoteObject
    at_s: float


class ObjectStore:
    """Reader of objects. All methods are thread-safe. A forked process opens its own file systems."""

    def __init__(self) -> None:
        self.num_bytes_read = 0
        """bytes of all objects that were transferred"""
        self._lock = threading.Lock()
        self._file_systems: dict[tuple[int, str], Any] = {}
        self._recent: dict[str, _Memo] = {}
        self._down: dict[str, tuple[StorageError, float]] = {}

    def find(self, url: str, max_age_s: float = 0.0) -> RemoteObject:
        """Return the current version of an object.

        Args:
            url: of the object.
            max_age_s: age of an earlier reply that is accepted instead of a request.

        Raises:
            InputError: no such object, a folder, or no access to it.
            StorageError: the store does not answer, or rejects the credentials.
        """
        memo = self._recent.get(url)
        if memo is not None and time.monotonic() - memo.at_s < max_age_s:
            return memo.object
        check_url(url)
        fields = self._request(url, lambda fs, path: fs.info(path, **_options_of_info(path)))
        if fields.get("type") == "directory" or fields.get("size") is None:
            raise InputError(
                expected="the URL of an object", got=f"{url}: a folder", fix="name an object in it"
            )
        told = [url, *(f"{key}={fields[key]}" for key in _VERSION_KEYS if fields.get(key))]
        version = hashlib.sha256("\n".join(told).encode("utf-8", "surrogatepass")).hexdigest()
        found = RemoteObject(url, int(fields["size"]), version)
        if len(self._recent) > 1000:
            self._recent.clear()
        self._recent[url] = _Memo(found, time.monotonic())
        return found

    def parts(self, one: RemoteObject, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an object from `start` to `end`, in parts of at most `MAX_PART_BYTES`.

        Raises:
            InputError: the object is shorter than the store reports, or was removed.
            StorageError: the store does not answer, or rejects the credentials.
        """
        end = one.num_bytes if end is None else end
        for first in range(start, end, MAX_PART_BYTES):
            yield self._part(one, first, min(end, first + MAX_PART_BYTES))

    def check_version(self, one: RemoteObject) -> bool:
        """Return whether an object still has this version."""
        return self.find(one.url).version == one.version

    def names(self, url: str) -> list[str]:
        """Return the URLs of all objects below a URL.

        Raises:
            InputError: nothing is there.
            StorageError: the store does not answer, or rejects the credentials.
        """
        check_url(url)
        scheme = url.partition("://")[0]
        self._request(
            url, lambda fs, path: fs.exists(path)
        )  # a long list may take minutes, a dead store not
        found = self._request(url, _find_below, MAX_LIST_S)
        return [f"{scheme}://{str(name).lstrip('/')}" for name in found]

    def _part(self, one: RemoteObject, start: int, end: int) -> bytes:
        content = b""
        for wait_s in (*BACKOFF_S[:2], None):
            content = bytes(
                self._request(
                    one.url,
                    lambda fs, path: fs.cat_file(
                        path, start=start, end=end, **_options_of_cat(path)
                    ),
                    REQUEST_S + (end - start) / MIN_BYTES_PER_S,
                )
            )
            self.num_bytes_read += len(content)
            if len(content) == end - start:
                return content
            if wait_s is not None:
                time.sleep(wait_s)
        raise InputError(
            expected=f"an object of {one.num_bytes:,} bytes, as the store reports",
            got=f"{one.url}: truncated, {start + len(content):,} bytes",
            fix="upload it again",
        )

    def _request(
        self, url: str, call: Callable[[Any, str], Any], limit_s: float = REQUEST_S
    ) -> Any:
        """Execute a request, again after a failure that may pass.

        Args:
            url: of the object.
            call: the request, of a file system and the URL.
            limit_s: time after which a store other than S3, whose client has its own limits, does not answer.

        Raises:
            InputError: an unusable object.
            StorageError: an unusable store.
        """
        bucket = bucket_of(url)
        self._raise_if_down(bucket)
        started, fs = time.monotonic(), None
        for wait_s in (*BACKOFF_S, None):
            try:
                fs = self._file_system(url)
                if url.startswith("s3://"):
                    return call(fs, url)
                return _within(limit_s, partial(call, fs, url))
            except (StorageError, InputError):
                raise
            except Exception as error:  # noqa: BLE001 - each library has its own exceptions
                failure, detail = failure_of(error), type(error).__name__
            late = time.monotonic() - started + (wait_s or 0.0) > REQUEST_S
            if failure not in RETRIED or wait_s is None or late:
                break
            time.sleep(wait_s)
        raised = object_error(url, self._failure_of_bucket(fs, url, failure), detail)
        if isinstance(raised, StorageError):
            self._down[bucket] = raised, time.monotonic() + _DOWN_S
        raise raised from None

    def _raise_if_down(self, bucket: str) -> None:
        error, until = self._down.get(bucket, (None, 0.0))
        if error is not None and time.monotonic() < until:
            raise StorageError(expected=error.expected, got=error.got, fix=error.fix)

    def _failure_of_bucket(self, fs: Any, url: str, failure: Failure) -> Failure:
        """Return why an object cannot be read, if the reason is its bucket or the credentials.

        The reply to a HEAD request has no reason: expired credentials are 400 Bad Request. GCS and Azure reply to a missing
        bucket as to a missing object.
        """
        if failure is Failure.NO_OBJECT and url.startswith(_STORES_WITHOUT_REASON):
            try:
                _within(REQUEST_S, lambda: fs.info(bucket_of(url)))
            except FileNotFoundError:
                return Failure.NO_BUCKET
            except Exception:  # noqa: BLE001 - reading objects does not include reading about their bucket
                return failure
        if failure not in (Failure.DENIED, Failure.UNUSABLE) or fs is None:
            return failure
        try:
            fs.cat_file(url, start=0, end=1)
        except Exception as error:  # noqa: BLE001
            return failure_of(error)
        return failure

    def _file_system(self, url: str) -> Any:
        """Return the file system of a URL. An event loop does not survive a fork."""
        scheme = url.partition("://")[0]
        key = os.getpid(), scheme
        with self._lock:
            if key not in self._file_systems:
                self._file_systems[key] = _open_file_system(scheme)
            return self._file_systems[key]


def _open_file_system(scheme: str) -> Any:
    package = _PACKAGES.get(scheme, "huggingface-hub" if scheme == "hf" else "fsspec")
    try:
        import fsspec

        # Their warnings about attempts would be lines next to the one error of a run.
        for name in ("gcsfs", "azure", "huggingface_hub.utils._http"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # Support of zonal buckets asks for the type of a bucket before each request, with a permission that readers lack.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        options: dict[str, Any] = {} if scheme == "hf" else {"use_listings_cache": False}
        if scheme == "s3":
            options |= _OPTIONS_OF_S3
        fs = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise StorageError(
            expected=f"{package}, which reads {scheme}://",
            got="it is not installed",
            fix=install_command("cloud")
            if package in ("s3fs", "fsspec")
            else f"pip install {package}",
        ) from error
    if scheme == "s3":
        fs.retries = 1  # this module retries
    return fs


def _within(limit_s: float, call: Callable[[], Any]) -> Any:
    """Return the result of a call in a thread.

    Raises:
        TimeoutError: it takes longer. Its thread ends on its own.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="object-request").start()
    return future.result(limit_s)


def _find_below(fs: Any, url: str) -> list[str]:
    """Return the names of all objects below a URL. The hub's file system would answer later questions from this list."""
    names: list[str] = fs.find(url)
    fs.invalidate_cache()
    return names


def _options_of_info(url: str) -> dict[str, Any]:
    """Return the arguments with which `info` asks the store, and the hub tells a version."""
    if url.startswith("hf://"):
        return {"refresh": True, "expand_info": True}
    return {"refresh": True} if url.startswith("s3://") else {}


def _options_of_cat(url: str) -> dict[str, Any]:
    """Return the arguments with which `cat_file` transfers a range and not a block of megabytes."""
    return {"cache_type": "none"} if url.startswith("hf://") else {}


OBJECTS = ObjectStore()
"""reader of this process"""
