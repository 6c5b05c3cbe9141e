"""What a BlobStore answers that takes up no upload where it was cut off, and that clients cannot reach themselves."""

from __future__ import annotations

from contextlib import AbstractContextManager

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Unsupported
from adapter_registry.domain.ports import Partial
from adapter_registry.domain.upload import Destination


class StartsOver:
    """A cut-off upload begins anew."""

    def received(self, session: str) -> None:  # noqa: ARG002  there is none
        """See BlobStore.received."""
        return

    def partial(self, session: str, *, name: str) -> AbstractContextManager[Partial]:  # noqa: ARG002
        """See BlobStore.partial."""
        raise Unsupported(f"{name}: this store takes up no upload that was cut off; send the file whole, by PUT.")


class BehindServer:
    """No client reaches the store but through the server."""

    def destination(self, digest: Digest, size: int, *, proof: str) -> Destination | None:  # noqa: ARG002
        """See BlobStore.destination."""
        return None

    def arrived(self, digest: Digest, size: int, *, proof: str) -> bool:  # noqa: ARG002
        """See BlobStore.arrived."""
        return False

    def settle(self, digest: Digest, size: int, *, proof: str) -> bool:  # noqa: ARG002
        """See BlobStore.settle."""
        return True
