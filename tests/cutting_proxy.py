"""A TCP proxy that cuts connections after so many bytes of a request, and counts what it let through."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

BLOCK = 1 << 16


class CuttingProxy:
    """Listens on 127.0.0.1; `cuts` are the bytes after which the next large requests are cut, in order."""

    def __init__(self, target: str, cuts: Sequence[int], *, large: int = 1 << 20) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target, self._cuts, self._large = (host, int(port)), list(cuts), large
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.sent = 0
        self.refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def cuts_left(self) -> int:
        return len(self._cuts)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            server = socket.create_connection(self._target)
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Requests to the server; a body that is large is cut where the next cut says."""
        passed, most = 0, None
        with contextlib.suppress(OSError):
            while data := client.recv(BLOCK):
                if most is None:
                    most = self._cut_of(data)
                allowed = data[: most - passed] if most >= 0 else data
                server.sendall(allowed)
                passed += len(allowed)
                with self._lock:
                    self.sent += len(allowed)
                if len(allowed) < len(data):
                    break
        for each in (server, client):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR if passed == most else socket.SHUT_WR)

    def _cut_of(self, head: bytes) -> int:
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        with self._lock:
            if int(length.partition(b":")[2]) >= self._large and self._cuts:
                return self._cuts.pop(0)
        return -1

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(BLOCK):
                client.sendall(data)
        for each in (server, client):
            each.close()


@contextmanager
def cutting(target: str, cuts: Sequence[int]) -> Iterator[CuttingProxy]:
    """A running proxy in front of `target`."""
    proxy = CuttingProxy(target, cuts)
    try:
        yield proxy
    finally:
        proxy.close()
