"""A file that loses bytes while it is sent ends the sending with a sentence, mapped or not."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from adapter_registry.checkpoints.adapter_files import FolderFile
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.transport.reading import MAPPED, Watch
from adapter_registry.transport.remote import BLOCK, Remote

SIZE = MAPPED + 3 * BLOCK + 5


@pytest.fixture
def source(tmp_path) -> FolderFile:
    path: Path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return FolderFile("file", SIZE, path)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("at", [0, 1, BLOCK + 7, SIZE - 1, SIZE])
def test_a_file_is_read_from_anywhere_to_its_end(source, mapped, at):
    told: list[int] = []
    with source.open() as stream:
        stream.seek(at)
        pieces = Watch(told.append).reading(stream, source, at=at, mapped=mapped)
        assert b"".join(bytes(piece) for piece in pieces) == source.location.read_bytes()[at:]
    assert sum(told) == SIZE


@pytest.mark.parametrize("mapped", [False, True])
def test_the_last_piece_waits_until_it_may_go(source, mapped):
    watch, read = Watch(lambda _: None), []
    with source.open() as stream:

        def go() -> None:
            read.extend(len(piece) for piece in watch.reading(stream, source, held=True, mapped=mapped))

        thread = threading.Thread(target=go)
        thread.start()
        thread.join(0.2)
        assert 0 < sum(read) < SIZE
        watch.allow()
        thread.join(10)
    assert sum(read) == SIZE


@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_that_became_shorter_is_told(source, mapped):
    with source.open() as stream:
        pieces = Watch(lambda _: None).reading(stream, source, mapped=mapped)
        next(pieces)
        os.truncate(source.location, BLOCK)
        with pytest.raises(InvalidInput, match="file became shorter while it was sent; nothing was stored"):
            list(pieces)


def test_a_file_that_becomes_shorter_under_the_kernels_hands_is_told(source):
    """Between the look at the file and the system call that sends it."""
    with socket.create_server(("127.0.0.1", 0)) as listening, source.open() as stream:
        pieces = Watch(lambda _: None).reading(stream, source, mapped=True)

        def cut():
            first = next(pieces)
            os.truncate(source.location, 10)
            yield first

        remote = Remote(f"http://127.0.0.1:{listening.getsockname()[1]}", None)
        with pytest.raises(InvalidInput, match="a file became shorter while it was sent"):
            remote.send_rest("/uploads/x", cut(), offset=0, size=SIZE)
