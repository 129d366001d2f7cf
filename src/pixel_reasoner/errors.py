"""Every error a user can meet, in one tree.

    PixelReasonerError            exit code 2 on the command line, one message, no traceback
    ├── UsageError      (ValueError)   options that do not fit together
    │   ├── UnknownNameError           a name that no registry contains; the nearest are listed
    │   └── PluginError                a plug-in of another package that cannot be used
    ├── InputError      (ValueError)   a picture, video or file that cannot be used
    │   └── PixelLimitError            it would need more memory than allowed
    ├── ModelError      (ValueError)   a model folder that cannot be loaded
    ├── EndpointError   (RuntimeError) a server that refuses, or does not answer
    ├── OutputError     (OSError)      a place that cannot be written: a file for a folder, a full disk
    ├── QueueFullError  (RuntimeError) more requests than the scheduler accepts
    ├── DeadlineError   (TimeoutError) a request that did not finish in its time
    └── CancelledError  (RuntimeError) a request that was cancelled

Three kinds of mistakes are kept apart. A *model's* mistake (a bad box, broken JSON) is data: an
`Observation` that tells the model what was wrong. A *user's* mistake is one of these errors. Ours is an
`assert`. A message says what was expected, what came, and the fix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


class PixelReasonerError(Exception):
    """Base of all errors a user can meet.

    `expected`, `got` and `fix` are kept apart so that every message has all three.

    >>> print(UsageError(expected="one of attribute, video", got="atribute", fix="use attribute"))
    expected one of attribute, video; got atribute. Fix: use attribute

    It can be sent from one process to another.

    >>> import pickle
    >>> pickle.loads(pickle.dumps(InputError(expected="a picture", got="none", fix="give one"))).fix
    'give one'
    """

    def __init__(self, *, expected: str, got: str, fix: str) -> None:
        super().__init__(f"expected {expected}; got {got}. Fix: {fix}")
        self.expected = expected
        self.got = got
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is made again; as it stands, Python would give `__init__` the message alone."""
        return partial(type(self), expected=self.expected, got=self.got, fix=self.fix), ()


class UsageError(PixelReasonerError, ValueError):
    """Options that do not fit together, or an unknown name."""


class UnknownNameError(UsageError):
    """A name that no registry contains."""


class PluginError(UsageError):
    """A plug-in of another package that cannot be used."""


class InputError(PixelReasonerError, ValueError):
    """A picture, video, folder or file that cannot be used."""


class PixelLimitError(InputError):
    """A picture that has more pixels than the limit allows."""


class ModelError(PixelReasonerError, ValueError):
    """A model folder or hub id that cannot be loaded."""


class EndpointError(PixelReasonerError, RuntimeError):
    """A server that refuses every request, or that does not answer."""


class OutputError(PixelReasonerError, OSError):
    """A place that cannot be written to."""


class QueueFullError(PixelReasonerError, RuntimeError):
    """More requests than a scheduler accepts at once."""


class DeadlineError(PixelReasonerError, TimeoutError):
    """A request that did not finish in its time."""


class CancelledError(PixelReasonerError, RuntimeError):
    """A request that was cancelled."""


def one_line(error: BaseException, max_chars: int = 300) -> str:
    r"""Return the message of a foreign exception for one of ours.

    >>> one_line(ValueError("1 error\n  field\n    missing"))
    '1 error field missing'
    """
    text = " ".join(str(error).split())
    return text if len(text) <= max_chars else text[:max_chars] + "…"


def install_command(extra: str) -> str:
    """Return how the packages of an extra are installed. This package is not on PyPI.

    >>> install_command("local,train")
    "in a clone of the repository, pip install -e '.[local,train]'"
    """
    return f"in a clone of the repository, pip install -e '.[{extra}]'"


@contextmanager
def packages_of(extra: str, what: str) -> Iterator[None]:
    """Around imports of optional packages: one that is missing is a mistake whose fix is known.

    >>> with packages_of("train", "train"):
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
