"""URLs of media in object stores, and the prefixes below which a command may read them.

A URL has the form `scheme://bucket/key`. It is never converted to a `Path`, which folds `//`. No URL is read unless the user
allowed a prefix of it (`allow_media_urls`, `--media-url`). The server never allows any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import path_exists

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "hf", "memory")
"""object stores of fsspec; HTTP addresses are excluded, because a redirect may lead anywhere"""
_FOLDED_URL = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f?\\]|::")
_EXPECTED = f"a URL scheme://bucket/key with the scheme {', '.join(SCHEMES)}"

_allowed: tuple[str, ...] = ()


def is_url(path: str | Path) -> bool:
    """Return whether a media path is a URL of an object store. Every other address is a path of a file that does not exist.

    >>> is_url("s3://bucket/a.png"), is_url("/data/a.png"), is_url("https://example.org/a.png")
    (True, False, False)
    """
    return isinstance(path, str) and "://" in path and path.partition("://")[0] in SCHEMES


def join_media(root: Path | str, path: str) -> str:
    """Return a media path, relative to a folder or to a URL if it is relative.

    >>> join_media("s3://bucket/images", "a//b.png"), join_media(Path("here"), "a.png")
    ('s3://bucket/images/a//b.png', 'here/a.png')
    >>> join_media(Path("here"), "s3://bucket/a.png")
    's3://bucket/a.png'
    """
    if is_url(path):
        return path
    if isinstance(root, str) and is_url(root) and not Path(path).is_absolute():
        return f"{root}{'' if root.endswith('/') else '/'}{path}"
    return str(Path(root) / path)


def media_exists(path: str) -> bool:
    """Return whether a media file exists. A URL is assumed to exist: it is checked when it is opened."""
    return is_url(path) or path_exists(Path(path))


def check_url(url: str) -> None:
    """Raise an error unless a URL names an object, without credentials, relative parts and options.

    Raises:
        InputError: another form. No message contains credentials.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    problem = ""
    if scheme not in SCHEMES:
        problem = f"the scheme {scheme}"
    elif "@" in bucket and ":" in bucket.partition("@")[0]:
        problem = "credentials in it"
    elif not bucket or (_FORBIDDEN.search(rest)):
        problem = "no bucket" if not bucket else "`?`, `\\`, `::` or a control character in it"
    elif {".", ".."} & set(key.split("/")):
        problem = "`.` or `..` in it"
    if problem:
        raise InputError(
            expected=_EXPECTED,
            got=f"{redacted_url(url)}: {problem}",
            fix="correct the URL; credentials belong in the environment or a profile",
        )


def redacted_url(url: str) -> str:
    """Return a URL without user, password and query.

    >>> redacted_url("s3://key:secret@bucket/a.png?signature=1")
    's3://…@bucket/a.png?…'
    """
    scheme, _, rest = url.partition("://")
    rest, mark, _ = rest.partition("?")
    bucket, slash, key = rest.partition("/")
    if ":" in bucket.partition("@")[0] and "@" in bucket:
        bucket = f"…@{bucket.rpartition('@')[2]}"
    return f"{scheme}://{bucket}{slash}{key}{'?…' if mark else ''}"


def is_below(url: str, prefix: str) -> bool:
    """Return whether a URL is a prefix itself or below it, in whole path segments.

    >>> is_below("s3://b/images/1.png", "s3://b/images"), is_below("s3://b/images2/1.png", "s3://b/images")
    (True, False)
    """
    return url == prefix or url.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def set_media_urls(prefixes: Iterable[str]) -> None:
    """Replace the URL prefixes below which this process may read media.

    Raises:
        UsageError: a prefix that is not a URL of an object store.
    """
    global _allowed
    checked = tuple(dict.fromkeys(prefixes))
    for prefix in checked:
        try:
            check_url(prefix)
        except InputError as error:
            raise UsageError(
                expected=f"a prefix such as s3://bucket/images/, of {', '.join(SCHEMES)}",
                got=error.got,
                fix="correct the prefix",
            ) from None
    _allowed = checked


def allowed_media_urls() -> tuple[str, ...]:
    """Return the URL prefixes below which this process may read media."""
    return _allowed


@contextmanager
def allow_media_urls(*prefixes: str) -> Iterator[None]:
    """Allow media below these URL prefixes, in addition to those allowed before, in the `with` block.

    Args:
        *prefixes: for example `s3://bucket/images/`.

    Raises:
        UsageError: a prefix that is not a URL of an object store.

    >>> with allow_media_urls("s3://bucket/images/"):
    ...     allowed_media_urls()
    ('s3://bucket/images/',)
    """
    before = _allowed
    set_media_urls((*before, *prefixes))
    try:
        yield
    finally:
        set_media_urls(before)


def check_local(path: Path | None, option: str) -> None:
    """Raise an error if an option that needs a local file or folder has a URL.

    >>> check_local(Path("s3://bucket/rows.jsonl"), "--data")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected --data with a local file or folder; got the URL s3://bucket/rows.jsonl. Fix: copy it to this machine; only media may be URLs
    """
    found = None if path is None else _FOLDED_URL.match(str(path))
    if found is not None:
        shown = f"{found[1]}://{str(path)[found.end() :].lstrip('/')}"
        raise UsageError(
            expected=f"{option} with a local file or folder",
            got=f"the URL {redacted_url(shown)}",
            fix="copy it to this machine; only media may be URLs",
        )
