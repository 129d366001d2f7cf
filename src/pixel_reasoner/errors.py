"""Exception hierarchy of the package.

    PixelReasonerError            exit code 2 on the command line, one message, no traceback
    ├── UsageError      (ValueError)   invalid or conflicting options
    │   ├── UnknownNameError           unregistered name; the message lists the nearest names
    │   └── PluginError                unusable plug-in of another package
    ├── InputError      (ValueError)   unusable picture, video or file
    │   └── PixelLimitError            picture with more pixels than allowed
    ├── ModelError      (ValueError)   model folder or hub id that cannot be loaded
    ├── EndpointError   (RuntimeError) server that rejects every request or does not answer
    ├── StorageError    (RuntimeError) object store that does not answer or rejects the credentials
    ├── OutputError     (OSError)      path that cannot be written: a file instead of a folder, a full disk
    ├── QueueFullError  (RuntimeError) more requests than the scheduler accepts
    ├── DeadlineError   (TimeoutError) request that exceeded its deadline
    ├── PreemptedError  (RuntimeError) training that was stopped after a checkpoint
    └── CancelledError  (RuntimeError) cancelled request

There are three kinds of mistakes. A mistake of the *model* (a bad box, broken JSON) is data: an `Observation` whose
message explains the error to the model. A mistake of the *user* raises one of these exceptions. A bug in this package
is an `AssertionError`. Every message contains the expected value, the actual value, and the fix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


class PixelReasonerError(Exception):
    """Base class of all errors of the package.

    `expected`, `got` and `fix` are separate arguments so that every message has all three.

    >>> print(UsageError(expected="one of attribute, video", got="atribute", fix="use attribute"))
    expected one of attribute, video; got atribute. Fix: use attribute

    Errors can be pickled.

    >>> import pickle
    >>> pickle.loads(pickle.dumps(InputError(expected="a picture", got="none", fix="give one"))).fix
    'give one'
    """

    def __init__(self, *, expected: str, got: str, fix: str) -> None:
        end = "" if got.endswith("\n") else ". "  # a list ends with a line break
        super().__init__(f"expected {expected}; got {got}{end}Fix: {fix}")
        self.expected = expected
        self.got = got
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling. By default Python would pass only the message to `__init__`."""
        return partial(type(self), expected=self.expected, got=self.got, fix=self.fix), ()


class UsageError(PixelReasonerError, ValueError):
    """Invalid or conflicting options, or an unknown name."""


class UnknownNameError(UsageError):
    """Unregistered name."""


class PluginError(UsageError):
    """Unusable plug-in of another package."""


class InputError(PixelReasonerError, ValueError):
    """Unusable picture, video, folder or file."""


class PixelLimitError(InputError):
    """Picture with more pixels than the limit allows."""


class ModelError(PixelReasonerError, ValueError):
    """Model folder or hub id that cannot be loaded."""


class EndpointError(PixelReasonerError, RuntimeError):
    """Server that rejects every request or does not answer."""


class StorageError(PixelReasonerError, RuntimeError):
    """Object store that does not answer, or rejects the credentials: no further object of it can be read."""


class OutputError(PixelReasonerError, OSError):
    """Path that cannot be written."""


class QueueFullError(PixelReasonerError, RuntimeError):
    """More requests than a scheduler accepts at once."""


class DeadlineError(PixelReasonerError, TimeoutError):
    """Request that exceeded its deadline."""


class PreemptedError(PixelReasonerError, RuntimeError):
    """Training that a signal or a stop file ended after a checkpoint. The same command continues it."""


class CancelledError(PixelReasonerError, RuntimeError):
    """Cancelled request."""


def one_line(error: BaseException, max_chars: int = 300) -> str:
    r"""Return the message of a foreign exception for one of ours.

    >>> one_line(ValueError("1 error\n  field\n    missing"))
    '1 error field missing'
    """
    text = " ".join(str(error).split())
    return text if len(text) <= max_chars else text[:max_chars] + "…"


def install_command(extra: str) -> str:
    """Return the command that installs an extra. This package is not on PyPI.

    >>> install_command("local,train")
    "in a clone of the repository, pip install -e '.[local,train]'"
    """
    return f"in a clone of the repository, pip install -e '.[{extra}]'"


@contextmanager
def require_extra(extra: str, what: str) -> Iterator[None]:
    """Context manager for imports of optional packages. A missing package raises a `UsageError` with the install command.

    Args:
        extra: extra of this package that installs them.
        what: purpose of the packages, for the message.

    >>> with require_extra("train", "train"):
    ...     import no_such_package
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected the packages that train; got no_such_package is not installed. Fix: in a clone of the repository, pip install -e '.[train]'
    """
    try:
        yield
    except ImportError as error:
        raise UsageError(
            expected=f"the packages that {what}",
            got=f"{error.name} is not installed",
            fix=install_command(extra),
        ) from error
