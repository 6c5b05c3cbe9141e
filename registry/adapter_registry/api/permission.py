"""Permissions to upload that fit into an address or a header: signed by the server, good for a while, for one thing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from adapter_registry.domain.errors import Unauthorised

ALGORITHM = "HS256"


def signed(key: str, *, purpose: str, seconds: int, **claims: Any) -> str:
    """A permission for `purpose` with what it is about.

    Args:
        key: the server's signing key.
        purpose: what it is good for; a permission for one thing is none for another.
        seconds: how long it is good.
        claims: JSON values.
    """
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return jwt.encode({**claims, "aud": purpose, "exp": until}, key, algorithm=ALGORITHM)


def read(key: str, text: str, *, purpose: str) -> dict[str, Any]:
    """What a permission is about; raises Unauthorised when it is not one, not for this, or over."""
    try:
        claims: dict[str, Any] = jwt.decode(
            text, key, algorithms=[ALGORITHM], audience=purpose, options={"require": ["exp", "aud"]}
        )
    except jwt.PyJWTError as error:
        raise Unauthorised("this permission to upload is not valid, or it is over; start the upload again.") from error
    return claims
