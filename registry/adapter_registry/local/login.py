"""Signing in to a server by password or browser, exchanging a pipeline's token there, and remembering who signed in."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.domain.people.account import Token
from adapter_registry.services.access import NewToken
from adapter_registry.settings import Login
from adapter_registry.transport.remote import Remote


@dataclass(frozen=True, slots=True)
class Opened:
    """A sign-in by browser that has begun.

    Attributes:
        open: the address that the person opens.
        secret: what is shown with the code that the browser ends with.
        expires_in: seconds.
    """

    open: str
    secret: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What RFC 8693 answers, and the token as it is listed."""

    access_token: str
    issued_token_type: str
    token_type: str
    expires_in: int
    token: Token


def signed_in(url: str, name: str, password: str) -> NewToken:
    """A token of who knows the password; raises Unauthorised otherwise."""
    return Remote(url, None).post("/api/v1/sign-in", {"name": name, "password": password}, NewToken)


def begun(url: str) -> Opened:
    """A sign-in by the server's OpenID provider; raises Unsupported when it has none."""
    return Remote(url, None).post("/api/v1/sign-in/browser", {}, Opened)


def finished(url: str, secret: str, code: str) -> NewToken:
    """The token of who signed in by browser; raises IdentityRefused for another code than the browser shows."""
    return Remote(url, None).post("/api/v1/sign-in/code", {"secret": secret, "code": code}, NewToken)


def exchanged(url: str, subject_token: str, trust: str | None = None) -> Exchange:
    """A token of ours for a pipeline's own; raises IdentityRefused where no trust lets it in."""
    document = {"subject_token": subject_token, **({"trust": trust} if trust else {})}
    return Remote(url, None).post("/api/v1/tokens/exchange", document, Exchange)


def keep(path: Path, login: Login) -> None:
    """Remember a server and a token in a file that nobody else may read.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes it readable by its owner alone; the rename replaces whatever was there, with its permissions.
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(login), file)
            Path(aside).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(aside).unlink()
            raise
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written ({error.strerror}); the sign-in was not kept.") from error


def forget(path: Path) -> None:
    """Remember nobody any more."""
    path.unlink(missing_ok=True)
