"""What only a store in a bucket does: requests, checksums, presigned URLs, its own errors."""

from __future__ import annotations

import http.client
import io
import os
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import DigestMismatch, InvalidInput, NotFound, StoreFull, StoreUnavailable
from tests.contract.test_blobs import DATA, DIGEST, read, small_files

pytest.importorskip("boto3", reason="NOT TESTED ON S3: the package `boto3` is not installed (extra `s3`)")

from botocore.exceptions import ClientError

from adapter_registry.storage import blobs_s3, blobs_s3_client, blobs_s3_direct
from adapter_registry.storage.blobs_s3 import open_s3

BIG = os.urandom(6 << 20)
PREFIX = "some/where/"


class Counting:
    """A client that notes which operations were asked of it, and does instead what it is told to."""

    def __init__(self, client, **instead):
        self._client, self._instead, self.asked = client, instead, []

    def __getattr__(self, name):
        real = getattr(self._client, name)
        if not callable(real):
            return real

        def ask(*arguments, **options):
            self.asked.append(name)
            return self._instead.get(name, real)(*arguments, **options)

        return ask


@pytest.fixture
def store(s3_server):
    return s3_server.fresh_blobs()


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(blobs_s3, "SINGLE_PUT", 1 << 20)
    monkeypatch.setattr(blobs_s3, "PART", 5 << 20)


def counted(store, **instead) -> Counting:
    store._client = Counting(store._client, **instead)
    return store._client


def uploads(store) -> list:
    return store._client.list_multipart_uploads(Bucket=store._bucket).get("Uploads", [])


def refusing(code: str, status: int = 400):
    def refuse(**_options):
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Some")

    return refuse


class TestUrl:
    def test_a_prefix_is_kept_apart_from_the_rest_of_the_bucket(self, s3_server, store):
        whole = open_s3(f"s3://{store._bucket}", **s3_server.options())
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        assert whole.size(DIGEST) is None
        assert list(whole.each()) == []
        keys = store._client.list_objects_v2(Bucket=store._bucket)["Contents"]
        assert [key["Key"] for key in keys] == [f"{PREFIX}sha256/{DIGEST[7:9]}/{DIGEST[7:]}"]

    @pytest.mark.parametrize("url", ["s3://", "https://bucket", "s3://key:secret@bucket", "s3://bucket?x=1", "bucket"])
    def test_anything_else_is_refused(self, url):
        with pytest.raises(InvalidInput, match="expected s3://bucket"):
            open_s3(url)

    def test_a_bucket_stands_in_the_path_of_a_store_that_is_not_aws(self, s3_server):
        assert open_s3("s3://bucket", **s3_server.options()).url_style == "path"
        assert open_s3("s3://bucket", region="eu-west-1").url_style == "virtual"
        with pytest.raises(InvalidInput, match="`path` or `virtual`"):
            open_s3("s3://bucket", url_style="dns")

    @pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
    def test_an_address_from_the_environment_is_a_store_that_is_not_aws_too(self, monkeypatch, variable):
        monkeypatch.setenv(variable, "https://minio.example.org")
        assert open_s3("s3://bucket").url_style == "path"
        monkeypatch.setenv(variable, "https://s3.eu-west-1.amazonaws.com")
        assert open_s3("s3://bucket").url_style == "virtual"

    def test_the_configuration_file_of_aws_has_the_last_word(self, monkeypatch, tmp_path):
        (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        assert open_s3("s3://bucket", endpoint_url="https://minio.example.org").url_style == "virtual"


class TestPut:
    def test_nothing_is_sent_that_has_another_digest(self, store):
        client = counted(store)
        with pytest.raises(DigestMismatch):
            store.put(DIGEST, io.BytesIO(DATA[:-1]), name="w")
        assert client.asked == []

    def test_what_is_there_is_not_sent_again_but_its_sender_must_have_it(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        client = counted(store)
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        assert set(client.asked) == {"head_object"}
        with pytest.raises(DigestMismatch):
            store.put(DIGEST, io.BytesIO(b"a guess"), name="w")

    def test_a_big_blob_travels_in_checked_parts(self, store, small_parts):
        client = counted(store)
        store.put(of_bytes(BIG), io.BytesIO(BIG), name="w")
        assert client.asked.count("upload_part") == 2
        assert read(store, of_bytes(BIG)) == BIG
        assert store.holds(of_bytes(BIG), len(BIG))
        assert uploads(store) == []

    def test_a_failed_big_upload_is_given_up(self, store, small_parts):
        counted(store, complete_multipart_upload=refusing("InternalError", 500))
        with pytest.raises(StoreUnavailable, match="answered 500 InternalError"):
            store.put(of_bytes(BIG), io.BytesIO(BIG), name="w")
        assert uploads(store) == []
        assert store.size(of_bytes(BIG)) is None

    @pytest.mark.parametrize("data", [DATA, BIG])
    def test_another_writer_who_was_first_is_a_success(self, s3_server, store, small_parts, data):
        digest, heads = of_bytes(data), []
        other = open_s3(f"s3://{store._bucket}/{PREFIX}", **s3_server.options())

        def head_object(**wanted):
            heads.append(wanted)
            try:
                return other._client.head_object(**wanted)
            finally:
                if len(heads) == 1:
                    other.put(digest, io.BytesIO(data), name="w")

        counted(store, head_object=head_object)
        assert store.put(digest, io.BytesIO(data), name="w") == len(data)
        assert read(store, digest) == data
        assert uploads(store) == []

    @pytest.mark.parametrize("damage", [b"damage" + DATA[6:], b"short"])
    def test_putting_the_bytes_again_heals_a_damaged_blob(self, store, damage):
        checked = {"ChecksumAlgorithm": "SHA256"}
        store._client.put_object(Bucket=store._bucket, Key=store._key(DIGEST), Body=damage, **checked)
        assert not store.holds(DIGEST, len(DATA))
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        assert read(store, DIGEST) == DATA

    def test_a_full_folder_for_temporary_files_is_said(self, store):
        with small_files(1 << 20), pytest.raises(StoreFull, match="set TMPDIR"):
            store.put(DIGEST, io.BytesIO(DATA), name="w")

    @pytest.mark.parametrize("code", sorted(blobs_s3_client._FULL))
    def test_a_full_bucket_is_said(self, store, code):
        counted(store, put_object=refusing(code))
        with pytest.raises(StoreFull, match=r"w: the bucket .* is full .* nothing was stored"):
            store.put(DIGEST, io.BytesIO(DATA), name="w")


class TestRead:
    def test_reading_in_order_is_one_request_and_a_jump_one_more(self, store):
        store.put(of_bytes(BIG), io.BytesIO(BIG), name="w")
        client = counted(store)
        with store.open(of_bytes(BIG)) as stream:
            assert b"".join(iter(lambda: stream.read(10_000), b"")) == BIG
            assert client.asked == ["head_object", "get_object"]
            stream.seek(3 << 20)
            assert stream.read(4 << 20) == BIG[3 << 20 :]
        assert client.asked.count("get_object") == 2

    def test_a_stream_that_is_cut_is_taken_up_again(self, store):
        store.put(of_bytes(BIG), io.BytesIO(BIG), name="w")
        real = store._client.get_object

        def get_object(**wanted):
            answer = real(**wanted)
            stream, read_ = answer["Body"], answer["Body"].read

            def read(amount):
                if stream.tell() >= 2 << 20:
                    raise http.client.IncompleteRead(b"")
                return read_(amount)

            stream.read = read
            return answer

        client = counted(store, get_object=get_object)
        assert read(store, of_bytes(BIG)) == BIG
        assert client.asked.count("get_object") == 3

    def test_bytes_that_vanish_while_they_are_read_are_not_found(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        with store.open(DIGEST) as stream:
            store.delete(DIGEST)
            with pytest.raises(NotFound, match="pushing the same files again"):
                stream.read(1)


class TestKeep:
    def test_asking_whether_an_old_blob_is_there_makes_it_young_again(self, store, monkeypatch):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        before = store._head(DIGEST)["LastModified"]
        time.sleep(1.1)
        store.holds(DIGEST, len(DATA))
        assert store._head(DIGEST)["LastModified"] == before
        monkeypatch.setattr(blobs_s3, "YOUNG_SECONDS", 0.5)
        assert store.holds(DIGEST, len(DATA))
        assert store._head(DIGEST)["LastModified"] > before
        assert read(store, DIGEST) == DATA

    def test_a_blob_too_big_to_be_copied_at_once_is_made_young_in_parts(self, store, monkeypatch):
        monkeypatch.setattr(blobs_s3, "YOUNG_SECONDS", -1)
        monkeypatch.setattr(blobs_s3, "LARGEST_COPY", 1 << 20)
        monkeypatch.setattr(blobs_s3, "COPY_PART", 5 << 20)
        store.put(of_bytes(BIG), io.BytesIO(BIG), name="w")
        client = counted(store)
        assert store.holds(of_bytes(BIG), len(BIG))
        assert client.asked.count("upload_part_copy") == 2
        assert read(store, of_bytes(BIG)) == BIG

    def test_a_blob_that_vanishes_while_it_is_asked_for_is_not_held(self, store, monkeypatch):
        monkeypatch.setattr(blobs_s3, "YOUNG_SECONDS", -1)
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        counted(store, copy_object=refusing("NoSuchKey", 404))
        assert not store.holds(DIGEST, len(DATA))

    def test_unfinished_uploads_and_temporary_keys_are_swept(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        wanted = {"Bucket": store._bucket}
        store._client.create_multipart_upload(**wanted, Key=store._key(of_bytes(BIG)))
        store._client.put_object(**wanted, Key=f"{PREFIX}incoming/left", Body=b"half")
        store._client.create_multipart_upload(**wanted, Key="somebody/elses")
        assert store.sweep(older_than=3600) == 0
        assert store.sweep(older_than=0) == 2
        assert [upload["Key"] for upload in uploads(store)] == ["somebody/elses"]
        assert store.size(DIGEST) == len(DATA)

    def test_keys_that_are_no_blobs_are_passed_over(self, store):
        store._client.put_object(Bucket=store._bucket, Key=f"{PREFIX}sha256/ab/README", Body=b"hello")
        assert list(store.each()) == []


class TestPresigned:
    def test_a_url_reads_the_bytes_under_the_name_it_was_given(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        url = store.presigned_get(DIGEST, seconds=60, filename='w "1".safetensors')
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == DATA
            assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''w%20%221%22.safetensors"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url.replace(DIGEST[7:], of_bytes(BIG)[7:]))
        refused.value.close()
        assert refused.value.code == 403

    def test_a_blob_is_located_by_a_url_that_reads_it(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        found = store.location(DIGEST)
        assert not found.local
        with urllib.request.urlopen(found.address) as answer:
            assert answer.read() == DATA

    def test_a_lost_blob_has_no_address(self, store):
        assert store.location(DIGEST) is None

    def test_whether_a_blob_is_there_is_not_asked_at_every_download(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        client = counted(store)
        for _ in range(3):
            assert store.location(DIGEST) is not None
        assert client.asked.count("head_object") == 1


PROOF, OTHER = "a" * 64, "b" * 64


def send(destination, data: bytes, *, without: str = "", **headers: str) -> int:
    parts = urlsplit(destination.url)
    connection = http.client.HTTPConnection(parts.netloc)
    given = {**destination.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        kept = {name: value for name, value in given.items() if name != without}
        connection.request("PUT", f"{parts.path}?{parts.query}", body=data, headers=kept)
        return connection.getresponse().status
    finally:
        connection.close()


class TestDirectUploads:
    @pytest.fixture(params=["new", "there"])
    def destination(self, store, request):
        """An address for bytes that the bucket lacks, and for bytes that it has from somebody else."""
        if request.param == "there":
            store.put(DIGEST, io.BytesIO(DATA), name="w")
        return store.destination(DIGEST, len(DATA), proof=PROOF)

    def test_an_address_stores_exactly_the_bytes_it_was_made_for(self, store, destination):
        assert send(destination, b"damage" + DATA[6:]) == 400
        assert not store.arrived(DIGEST, len(DATA), proof=PROOF)
        assert send(destination, DATA) == 200
        assert store.arrived(DIGEST, len(DATA), proof=PROOF)
        store.settle(DIGEST, len(DATA), proof=PROOF)
        assert store.holds(DIGEST, len(DATA))
        assert store.sweep(older_than=0) == 0

    def test_neither_size_nor_checksum_nor_proof_can_be_dropped_or_swapped(self, store, destination):
        other = b"damage" + DATA[6:]
        for name in destination.headers:
            if name != "content-length":
                assert send(destination, other, without=name) == 403, name
        assert send(destination, other, x_amz_checksum_sha256=blobs_s3_direct.checksum_of(of_bytes(other))) == 403
        assert send(destination, DATA, x_amz_meta_proof=OTHER) == 403
        assert send(destination, DATA + b"x", content_length=str(len(DATA) + 1)) == 403
        assert not store.arrived(DIGEST, len(DATA), proof=PROOF)

    def test_bytes_that_somebody_else_sent_prove_nothing(self, store, destination):
        assert not store.arrived(DIGEST, len(DATA), proof=PROOF)
        assert send(store.destination(DIGEST, len(DATA), proof=OTHER), DATA) == 200
        assert not store.arrived(DIGEST, len(DATA), proof=PROOF)
        assert store.arrived(DIGEST, len(DATA), proof=OTHER)

    def test_another_size_or_digest_than_was_sent_has_not_arrived(self, store, destination):
        send(destination, DATA)
        assert not store.arrived(DIGEST, len(DATA) + 1, proof=PROOF)
        assert not store.arrived(of_bytes(BIG), len(DATA), proof=PROOF)

    def test_of_two_who_send_new_bytes_at_once_one_creates_them(self, store):
        first, second = (store.destination(DIGEST, len(DATA), proof=proof) for proof in (PROOF, OTHER))
        assert [send(first, DATA), send(second, DATA)] == [200, 412]
        assert [store.arrived(DIGEST, len(DATA), proof=proof) for proof in (PROOF, OTHER)] == [True, False]

    def test_bytes_that_went_away_while_they_were_sent_are_stored_again(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        destination = store.destination(DIGEST, len(DATA), proof=PROOF)
        send(destination, DATA)
        store.delete(DIGEST)
        store.settle(DIGEST, len(DATA), proof=PROOF)
        assert read(store, DIGEST) == DATA
        assert store.sweep(older_than=0) == 0

    def test_damaged_bytes_are_healed_by_sending_them(self, store):
        damaged = {"Bucket": store._bucket, "Key": store._key(DIGEST), "Body": b"damage" + DATA[6:]}
        store._client.put_object(**damaged, ChecksumAlgorithm="SHA256")
        send(store.destination(DIGEST, len(DATA), proof=PROOF), DATA)
        store.settle(DIGEST, len(DATA), proof=PROOF)
        assert read(store, DIGEST) == DATA

    def test_what_a_bucket_without_checksums_has_is_read(self, store, destination):
        send(destination, DATA)
        real = store._client.head_object
        counted(store, head_object=lambda **wanted: {k: v for k, v in real(**wanted).items() if k != "ChecksumSHA256"})
        assert store.arrived(DIGEST, len(DATA), proof=PROOF)
        for key in (store._key(DIGEST), store._aside(PROOF)):
            damaged = {"Bucket": store._bucket, "Key": key, "Body": b"damage" + DATA[6:]}
            store._client.put_object(**damaged, Metadata={"proof": PROOF})
        assert not store.arrived(DIGEST, len(DATA), proof=PROOF)

    def test_what_was_never_claimed_is_swept(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        send(store.destination(DIGEST, len(DATA), proof=PROOF), DATA)
        assert store.sweep(older_than=0) == 1
        assert store.size(DIGEST) == len(DATA)

    def test_more_than_one_request_can_carry_goes_through_the_server(self, store):
        assert store.destination(DIGEST, (5 << 30) + 1, proof=PROOF) is None


class TestTrialAtTheStart:
    def test_a_store_that_honours_conditions_passes_and_nothing_stays(self, store):
        store.verify_conditional()
        assert "Contents" not in store._client.list_objects_v2(Bucket=store._bucket)

    def test_a_store_that_ignores_them_is_refused(self, store):
        real = store._client.put_object
        counted(store, put_object=lambda **options: real(**{k: v for k, v in options.items() if k != "IfNoneMatch"}))
        with pytest.raises(StoreUnavailable, match="ignores If-None-Match"):
            store.verify_conditional()
        assert "Contents" not in store._client.list_objects_v2(Bucket=store._bucket)

    def test_a_store_that_takes_other_bytes_than_were_signed_for_is_refused(self, store, monkeypatch):
        monkeypatch.setattr(store, "_sent", lambda _address, _data: 200)
        with pytest.raises(StoreUnavailable, match="ignores checksums"):
            store.verify_conditional()
        assert "Contents" not in store._client.list_objects_v2(Bucket=store._bucket)

    def test_a_bucket_that_is_not_there_is_said(self, s3_server):
        with pytest.raises(StoreUnavailable, match=r"the bucket no-such does not exist\. Create it"):
            open_s3("s3://no-such", **s3_server.options()).verify_conditional()

    def test_wrong_credentials_are_said(self, s3_server, store):
        wrong = open_s3(f"s3://{store._bucket}", **{**s3_server.options(), "secret_key": "x"})
        with pytest.raises(StoreUnavailable, match="refuses these credentials"):
            wrong.verify_conditional()

    def test_a_store_that_does_not_answer_is_said_soon(self, s3_server):
        silent = open_s3("s3://some", **{**s3_server.options(), "endpoint_url": "http://127.0.0.1:9"})
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            silent.verify_conditional()
        assert time.monotonic() - started < 10


class TestReachable:
    def test_a_bucket_that_is_not_there_is_said(self, s3_server):
        with pytest.raises(StoreUnavailable, match="does not exist"):
            open_s3("s3://never-made", **s3_server.options()).reachable()

    def test_credentials_that_are_refused_are_said(self, s3_server):
        url = f"s3://{s3_server.fresh_bucket()}"
        with pytest.raises(StoreUnavailable, match="refuses these credentials"):
            open_s3(url, **{**s3_server.options(), "secret_key": "another"}).reachable()


def test_addresses_for_clients_name_the_store_as_clients_reach_it(s3_server):
    public = s3_server.endpoint.replace("127.0.0.1", "localhost")
    bucket = s3_server.fresh_bucket()
    store = open_s3(f"s3://{bucket}", public_url=public, **s3_server.options())
    store.put(DIGEST, io.BytesIO(DATA), name="w")
    address = store.location(DIGEST).address
    assert address.startswith(f"{public}/{bucket}/")
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == DATA


@pytest.mark.parametrize("url", ["nonsense", "http://"])
def test_an_endpoint_that_is_none_is_refused(url):
    with pytest.raises(InvalidInput, match="AWS_ENDPOINT_URL_S3"):
        open_s3("s3://bucket", endpoint_url=url).reachable()
