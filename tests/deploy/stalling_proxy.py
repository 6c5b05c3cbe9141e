"""A TCP proxy whose answers to requests that name a file stay in the middle while `stalling` is set, and end there."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

BLOCK = 1 << 16


class StallingProxy:
    """Listens on 127.0.0.1; one request a connection."""

    def __init__(self, host: str, port: int, *, names: str, passes: int) -> None:
        self._target, self._names, self._passes = (host, port), names.encode(), passes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.stalling = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._target) as server:
            asked = client.recv(BLOCK)
            server.sendall(asked)
            left = self._passes if self.stalling.is_set() and self._names in asked.partition(b"\r\n")[0] else None
            while data := server.recv(BLOCK if left is None else left):
                client.sendall(data)
                left = None if left is None else left - len(data)
                while left == 0 and self.stalling.is_set():
                    time.sleep(0.02)
                if left == 0:
                    return
