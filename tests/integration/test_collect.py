"""Collections run beside pushes: never a version without bytes, and nobody waits while the store is looked at."""

from __future__ import annotations

import io
import random
import threading
import time
from dataclasses import replace

import pytest

from adapter_registry import app
from adapter_registry.checkpoints.adapter_files import read_folder
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import Conflict
from adapter_registry.domain.ports import KeptAnswer
from adapter_registry.domain.upload import Sent
from adapter_registry.local.folders import hashed
from adapter_registry.services import base, collect, mark, push, upload
from adapter_registry.settings import read_settings
from adapter_registry.transport import sending

ROUNDS = 100
GRACE = 0.02
SECONDS = 150


class Watched:
    """A store that does something before some of its operations, and is otherwise itself."""

    def __init__(self, store, **before):
        self._store, self._before = store, before

    def __getattr__(self, name):
        real, before = getattr(self._store, name), self._before.get(name)
        if before is None:
            return real

        def call(*arguments, **given):
            before()
            return real(*arguments, **given)

        return call


@pytest.fixture(params=["sqlite and a folder", "postgresql and s3"])
def backend(request, tmp_path, monkeypatch, llama_base):
    settings = {"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path / "cache")}
    if request.param == "postgresql and s3":
        s3 = request.getfixturevalue("s3_server")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
        settings["ADAPTERS_DATABASE_URL"] = request.getfixturevalue("postgres_server").fresh_database()
        settings["ADAPTERS_BLOBS_URL"] = f"s3://{s3.fresh_bucket()}/some/where"
    made = app.served(read_settings(settings))
    base.register(made, name="llama", base=llama_base)
    yield made
    made.catalog._engine.dispose()


@pytest.fixture
def files(lora_folder):
    sources, _ = read_folder(lora_folder)
    return [(hashed(source), source) for source in sources]


def sent_and_committed(backend, files) -> push.Pushed:
    """A push as a client makes it: to the bucket where there is one, else through the server."""
    listed, sources = [file for file, _ in files], {file.digest: source for file, source in files}
    for each in upload.begin(backend, adapter="default/a", files=listed):
        with sources[each.digest].open() as stream:
            if each.direct is None:
                file = next(file for file in listed if file.digest == each.digest)
                push.receive(backend, adapter="default/a", file=file, source=stream)
            else:
                sending._put(each.direct, stream)
                upload.finish(backend, adapter="default/a", sent=[Sent(each.digest, each.size, each.ticket)])
    return push.commit(backend, adapter="default/a", base="llama", files=listed)


def is_whole(backend, version) -> bool:
    for file in version.files:
        with backend.blobs.open(file.digest) as stream:
            if of_bytes(stream.read()) != file.digest:
                return False
    return True


def test_a_version_never_lacks_its_bytes_however_hard_they_are_collected(backend, files):
    chance, done, failures = random.Random(3), threading.Event(), []

    def pause() -> None:
        time.sleep(chance.uniform(0, 0.001))

    slow = Watched(backend.blobs, size=pause, delete=pause, holds=pause, each=pause)
    pushing, collecting = replace(backend, blobs=slow), replace(backend, blobs=slow)

    def collect_all_the_time() -> None:
        try:
            while not done.is_set():
                # A bucket tells ages in whole seconds: with no grace at all, everything is old there too.
                collect.collect(collecting, grace_seconds=chance.choice((0, GRACE, GRACE, GRACE)))
                time.sleep(chance.uniform(0, GRACE / 2))
        except Exception as error:  # noqa: BLE001  told by the test
            failures.append(error)

    collectors = [threading.Thread(target=collect_all_the_time) for _ in range(2)]
    for thread in collectors:
        thread.start()
    made = 0
    deadline = time.monotonic() + SECONDS
    try:
        while made < ROUNDS and time.monotonic() < deadline and not failures:
            try:
                pushed = sent_and_committed(pushing, files)
            except Conflict:
                # Collected between sending and commit, as such a short grace may have it.
                continue
            for _ in range(2):
                assert is_whole(backend, pushed.version)
                time.sleep(chance.uniform(0, 2 * GRACE))
            assert is_whole(backend, pushed.version)
            mark.remove(backend, reference=pushed.version.reference)
            made += 1
            time.sleep(chance.choice((0, GRACE, 2 * GRACE)))
    finally:
        done.set()
        for thread in collectors:
            thread.join(60)
    assert failures == []
    assert made >= ROUNDS // 4
    assert collect.check(backend, read_data=True, progress=lambda _: None).damage == ()


def test_nobody_waits_while_the_store_is_listed_or_asked(backend, files):
    wrote = []

    def write() -> None:
        """A write of somebody else; inside of a transaction it would wait for itself."""
        with backend.catalog.writing() as tx:
            tx.branches.own("other", [], at="2026")
        wrote.append(1)

    watched = replace(backend, blobs=Watched(backend.blobs, each=write, size=write, holds=write, sweep=write))
    pushed = sent_and_committed(watched, files)
    mark.remove(backend, reference=pushed.version.reference)
    assert collect.collect(watched, grace_seconds=0, dry_run=True).blobs == len(files)
    assert collect.collect(watched, grace_seconds=0).blobs == len(files)
    assert len(wrote) > len(files)


def test_bytes_that_are_asked_for_are_left_alone_for_the_grace(backend, files):
    pushed = sent_and_committed(backend, files)
    mark.remove(backend, reference=pushed.version.reference)
    assert push.missing(backend, adapter="default/a", files=[file for file, _ in files]) == ()
    assert collect.collect(backend, grace_seconds=3600).blobs == 0
    assert push.commit(backend, adapter="default/a", base="llama", files=[file for file, _ in files]).created


@pytest.mark.parametrize("step", range(5))
def test_a_push_at_any_step_of_a_collection_keeps_its_bytes(backend, files, step):
    mark.remove(backend, reference=sent_and_committed(backend, files).version.reference)
    steps, pushed = iter(range(100)), []

    def push_at_the_step() -> None:
        if next(steps) == step:
            pushed.append(sent_and_committed(backend, files))

    collecting = Watched(backend.catalog, writing=push_at_the_step)
    listing = Watched(backend.blobs, each=push_at_the_step)
    collect.collect(replace(backend, catalog=collecting, blobs=listing), grace_seconds=0)
    for each in pushed:
        assert is_whole(backend, each.version)
    assert pushed or next(steps) <= step


def test_bytes_that_go_away_while_they_are_sent_again_are_stored_again(backend):
    data = b"the same bytes"
    digest = of_bytes(data)
    backend.blobs.put(digest, io.BytesIO(data), name="w")
    collected = []

    def collect_first() -> None:
        if not collected:
            collected.append(collect.collect(backend, grace_seconds=0).blobs)

    watched = replace(backend, catalog=Watched(backend.catalog, writing=collect_first))
    with push.receiving(watched, adapter="default/a", name="w") as incoming:
        incoming.write(data)
        incoming.publish(digest)
    assert collected == [1]
    assert backend.blobs.holds(digest, len(data))


def test_pieces_and_answers_that_nobody_asks_for_again_are_forgotten(backend):
    piece = b"a piece"
    backend.blobs.put(of_bytes(piece), io.BytesIO(piece), name="w")
    with backend.catalog.writing() as tx:
        tx.branches.stage_xorb("u", "x", of_bytes(piece), at=backend.clock())
        tx.accounts.keep_answer(
            "ann", "k", KeptAnswer("r", 200, "{}"), at="2020-01-01T00:00:00.000000Z", forget_before=""
        )
    time.sleep(0.01)
    assert collect.collect(backend, grace_seconds=3600).blobs == 0
    with backend.catalog.reading() as tx:
        assert tx.branches.staged_xorb("u", "x") == of_bytes(piece)
        assert tx.accounts.answer("ann", "k") is None
    assert collect.collect(backend, grace_seconds=0).blobs == 1
    with backend.catalog.reading() as tx:
        assert tx.branches.staged_xorb("u", "x") is None
