"""Where the bytes of a file are sent: to the server, or straight to the store behind it; which of them need be."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.sketch import Sketch


@dataclass(frozen=True, slots=True)
class Destination:
    """An address in the store itself, good for one file and a short while: PUT, with these headers and no others."""

    url: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Upload:
    """How one file is to be sent.

    Attributes:
        digest: of the file.
        size: in bytes.
        direct: where in the store it goes; None when it goes through the server.
        ticket: what `upload.finish` is told once the bytes were sent to `direct`; a secret of the uploader.
        received: bytes that the server has of it from an upload that was cut off; None where none can be taken up.
    """

    digest: Digest
    size: int
    direct: Destination | None = None
    ticket: str = ""
    received: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that was sent to the store itself: what it is, and the ticket of its Upload."""

    digest: Digest
    size: int
    ticket: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A file that may be sent before its digest is known, because its bytes are surely missing.

    Attributes:
        sketch: of the file.
        received: bytes that the server has of it from an upload that was cut off.
    """

    sketch: Sketch
    received: int
