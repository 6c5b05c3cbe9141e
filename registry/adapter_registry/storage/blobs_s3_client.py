"""The connection to an S3 store, and what the errors of a bucket mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3  # type: ignore[import-untyped]  # it has no types
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from adapter_registry.domain.errors import InvalidInput, RegistryError, StoreFull, StoreUnavailable

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 2, 60, 3
"""A store that is down is told of within 5 seconds: the pauses between three attempts are 3 s at most."""

_MISSING = {"NoSuchKey", "NotFound", "404"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "InsufficientCapacity", "507"}
_FORBIDDEN = {
    "AccessDenied",
    "403",
    "401",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}


def s3_client(
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    session_token: str | None = None,
    url_style: str | None = None,
) -> Any:
    """A boto3 client with bounded retries and timeouts; safe for several threads.

    Args:
        endpoint_url: of a store that is not AWS; None for AWS.
        region: None for boto3's own search, then `us-east-1`.
        access_key: None for boto3's own search: environment, profile, role of the machine.
        secret_key: goes with `access_key`.
        session_token: of temporary credentials.
        url_style: `path` or `virtual`; None means what AWS's own configuration file says (`addressing_style`), else
            `virtual` for AWS and `path` for any other store, wherever its address came from.
    """
    session = boto3.session.Session()
    configured = (session._session.get_scoped_config().get("s3") or {}).get("addressing_style")
    style = url_style or (configured if configured in ("path", "virtual") else None)
    if style not in (None, "path", "virtual"):
        raise InvalidInput(f"{style!r} is no way to write a bucket into a URL: expected `path` or `virtual`.")

    def client(style: str) -> Any:
        return _client(session, style, endpoint_url, region, (access_key, secret_key, session_token))

    try:
        if style is not None:
            return client(style)
        made = client("virtual")
        at_aws = (urlsplit(made.meta.endpoint_url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return made if at_aws else client("path")
    except (ValueError, BotoCoreError) as error:
        # The text may hold what was set, and so a secret in the wrong place.
        raise InvalidInput(
            f"the settings of the S3 store cannot be used ({type(error).__name__}): AWS_ENDPOINT_URL_S3 and "
            "ADAPTERS_BLOBS_PUBLIC_URL are like http://host:port, a region like eu-central-1, a profile is in "
            "~/.aws/config."
        ) from error


def _client(
    session: Any,
    style: str,
    endpoint_url: str | None,
    region: str | None,
    keys: tuple[str | None, str | None, str | None],
) -> Any:
    access_key, secret_key, session_token = keys
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region or session.region_name or "us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=session_token,
        config=Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=32,
            s3={"addressing_style": style},
            # Ours is the SHA-256 given by hand; the default adds a CRC that stores other than AWS may not know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def explained(bucket: str, name: str) -> Iterator[None]:
    """A bucket's errors become ours; a missing object stays botocore's, for the caller."""
    try:
        yield
    except ClientError as error:
        if is_missing(error):
            raise
        raise _refused(bucket, name, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreUnavailable(
            f"no credentials for the bucket {bucket}. Give the server an access key and its secret, or a role."
        ) from error
    except BotoCoreError as error:
        raise silent(bucket, error) from error


def refusal(error: ClientError) -> tuple[str, int]:
    """(the store's error code, HTTP status) of an answer."""
    answer = error.response
    return str(answer.get("Error", {}).get("Code", "")), int(
        answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    )


def is_missing(error: ClientError) -> bool:
    """Whether an answer says that the object is not there."""
    return refusal(error)[0] in _MISSING


def is_taken(error: ClientError) -> bool:
    """Whether a condition failed: `If-None-Match`, because the key exists; `If-Match`, because the object changed."""
    return refusal(error)[0] in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")


def _refused(bucket: str, name: str, error: ClientError) -> RegistryError:
    code, status = refusal(error)
    if code == "NoSuchBucket":
        return no_bucket(bucket)
    if code in _FULL or status == 507:
        return StoreFull(f"{name}: the bucket {bucket} is full ({code}); nothing was stored. Free some space in it.")
    if code in _FORBIDDEN:
        return StoreUnavailable(
            f"{name}: the bucket {bucket} refuses these credentials ({code}). They must be allowed to get, put and "
            "delete objects, to list the bucket and to list and abort its multipart uploads."
        )
    if code in _DAMAGED:
        return StoreUnavailable(
            f"{name}: the bytes were damaged on their way to {bucket}; nothing was stored. Try again."
        )
    told = error.response.get("Error", {}).get("Message", "")
    return StoreUnavailable(f"{name}: the bucket {bucket} answered {status} {code} {told}".rstrip() + ". Try again.")


def no_bucket(bucket: str) -> StoreUnavailable:
    """The error for a bucket that is not there."""
    return StoreUnavailable(f"the bucket {bucket} does not exist. Create it, or name another.")


def silent(bucket: str, error: Exception) -> StoreUnavailable:
    """The error for a store that does not answer."""
    return StoreUnavailable(
        f"the store of the bucket {bucket} does not answer ({error}). Check its address and try again."
    )
