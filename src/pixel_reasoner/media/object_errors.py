"""Conversion of exceptions of object stores: one object is unusable, or the whole store is.

No message contains what a store or its library wrote, because these texts may contain keys and signatures.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import Enum

from pixel_reasoner.errors import InputError, PixelReasonerError, StorageError
from pixel_reasoner.schema.media_url import redacted_url

_FIX_OF_SCHEME = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), to valid credentials; "
    "FSSPEC_S3_ANON=true for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    "gcs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
    "abfs": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
    "hf": "set HF_TOKEN, or run `hf auth login`",
}
_ADDRESS_OF_SCHEME = {"s3": "AWS_ENDPOINT_URL and AWS_REGION", "hf": "HF_ENDPOINT"}
_KINDS_OF_REPOSITORIES = ("datasets", "spaces", "buckets")
"""first parts of hub URLs; a URL of a model starts with its owner"""
_REJECTED_CODES = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken"),
        *("InvalidClientTokenId", "SignatureDoesNotMatch", "TokenRefreshRequired"),
        *("RequestTimeTooSkewed", "InvalidSecurity", "AuthFailure", "NotSignedUp"),
    }
)
"""error codes of S3 for credentials that no request can use"""
_REJECTED_CLASSES = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("ProfileNotFound", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "SSOError"),
        *("TokenRetrievalError", "DefaultCredentialsError", "RefreshError"),
        *("ClientAuthenticationError", "GatedRepoError", "LocalTokenNotFoundError"),
    }
)
"""exceptions of botocore, google-auth, azure-core and huggingface_hub for missing or refused credentials"""
_REGION_CODES = frozenset({"PermanentRedirect", "301", "AuthorizationHeaderMalformed"})
_ABSENT_CLASSES = frozenset({"RepositoryNotFoundError", "RevisionNotFoundError"})
_BUSY_NUMBERS = frozenset({errno.EBUSY, errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO)})
_TIME_CLASSES = frozenset({"FSTimeoutError", "ReadTimeoutError", "ConnectTimeoutError"})


class Failure(Enum):
    """Kind of a failed request."""

    NO_OBJECT = "no such object"
    NO_BUCKET = "no such bucket"
    DENIED = "access denied"
    REJECTED = "the credentials are missing, expired or wrong"
    WRONG_REGION = "the bucket is in another region"
    UNREACHABLE = "no answer"
    BUSY = "the store answers with errors"
    UNUSABLE = "an unexpected error"


RETRIED = frozenset({Failure.UNREACHABLE, Failure.BUSY})


def failure_of(error: BaseException) -> Failure:
    """Return the kind of an exception of a file system of fsspec.

    >>> failure_of(FileNotFoundError()), failure_of(ConnectionRefusedError())
    (<Failure.NO_OBJECT: 'no such object'>, <Failure.UNREACHABLE: 'no answer'>)
    """
    chain = list(_chain(error))
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    codes = {code for one in chain if (code := _error_code(one))}
    if codes & _REJECTED_CODES or names & _REJECTED_CLASSES:
        return Failure.REJECTED
    if "NoSuchBucket" in codes or names & _ABSENT_CLASSES:
        return Failure.NO_BUCKET
    if codes & _REGION_CODES:
        return Failure.WRONG_REGION
    if "FileNotFoundError" in names:
        return Failure.NO_OBJECT
    if "PermissionError" in names:
        return Failure.DENIED
    if names & _TIME_CLASSES or names & {"ConnectionError", "TimeoutError", "gaierror"}:
        return Failure.UNREACHABLE
    if names & {"HTTPClientError", "ClientPayloadError", "ConnectError", "IncompleteRead"}:
        return Failure.UNREACHABLE
    if any(isinstance(one, OSError) and one.errno in _BUSY_NUMBERS for one in chain):
        return Failure.BUSY
    return Failure.UNUSABLE


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def bucket_of(url: str) -> str:
    """Return the URL of the bucket, container or repository of an object.

    >>> bucket_of("s3://media/a/b.png"), bucket_of("hf://datasets/owner/name/a/b.png")
    ('s3://media', 'hf://datasets/owner/name')
    """
    parts = url.split("/")
    if parts[0] == "hf:":
        return "/".join(parts[: 5 if parts[2:3] and parts[2] in _KINDS_OF_REPOSITORIES else 4])
    return "/".join(parts[:3])


def _error_code(error: BaseException) -> str:
    """Return the error code of a reply of S3; empty for other exceptions."""
    response = getattr(error, "response", None)
    found = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return found if isinstance(found, str) else ""


def object_error(url: str, failure: Failure, detail: str = "") -> PixelReasonerError:
    """Return the error for a failed request: an `InputError` for one object, a `StorageError` for the whole store.

    Args:
        url: of the object.
        failure: kind of the failure.
        detail: name of the exception, for unexpected ones.

    >>> print(object_error("s3://b/a.png", Failure.NO_OBJECT))
    expected an object that can be read; got s3://b/a.png: no such object. Fix: check the URL
    """
    shown = redacted_url(url)
    scheme, bucket = shown.partition("://")[0], bucket_of(shown)
    if failure is Failure.NO_BUCKET:
        return StorageError(
            expected="an existing bucket", got=f"{bucket}: {failure.value}", fix="check its name"
        )
    if failure is Failure.REJECTED:
        return StorageError(
            expected=f"credentials for {bucket}",
            got=failure.value,
            fix=_FIX_OF_SCHEME.get(scheme, "set its credentials in the environment"),
        )
    if failure is Failure.WRONG_REGION:
        return StorageError(
            expected=f"the region of {bucket}", got=failure.value, fix="set AWS_REGION to it"
        )
    if failure in RETRIED:
        address = _ADDRESS_OF_SCHEME.get(scheme)
        return StorageError(
            expected=f"an answer of {bucket}",
            got=failure.value,
            fix=f"check the network{f', {address}' if address else ''}; the same command continues",
        )
    what = (
        f"{failure.value} ({detail})" if detail and failure is Failure.UNUSABLE else failure.value
    )
    fix = "allow reading it, or check the URL" if failure is Failure.DENIED else "check the URL"
    return InputError(expected="an object that can be read", got=f"{shown}: {what}", fix=fix)
