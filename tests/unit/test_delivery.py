"""Against real receivers on this machine: honest, slow, lying, redirecting, and none of our business."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapter_registry.domain.webhooks.signature import headers, new_secret, verify
from adapter_registry.outside import delivery
from adapter_registry.outside.delivery import Answer, refusal, send

SECRET = new_secret(b"s" * 32)
BODY = b'{"type":"stage.moved"}'
# fmt: off
THIS_MACHINE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "localhost",
    "LOCALHOST", "0.0.0.0", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]", "[64:ff9b::7f00:1]", "[::127.0.0.1]",
]
# fmt: on


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it was sent; answers 200 with `ok`, or the status that is the path."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, self.headers, body))
        status = int(self.path.strip("/").partition("?")[0] or 200)
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/200")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running(server):
    server.received = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receiver():
    with running(ThreadingHTTPServer(("127.0.0.1", 0), Receiver)) as server:
        yield server


@pytest.fixture
def speaking():
    """A maker of receivers that speak by hand: `speaking(lambda connection: ...)` -> URL."""
    with contextlib.ExitStack() as stack:

        def made(speak):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)
                        speak(connection)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            return f"http://127.0.0.1:{listener.getsockname()[1]}/"

        yield made


def url(server, path="/", host="127.0.0.1", scheme="http"):
    return f"{scheme}://{host}:{server.server_port}{path}"


def deliver(url, **options):
    return send(url, BODY, {"webhook-id": "m"}, **{"allow_private": True, "timeout_seconds": 5, **options})


class TestAnswers:
    def test_a_signed_message_arrives_whole_and_verifies(self, receiver):
        signed = headers([SECRET], id="msg_a_1", timestamp=int(time.time()), body=BODY)
        assert send(url(receiver, "/200?a=b"), BODY, signed, allow_private=True) == Answer(200, "")
        [(path, received, body)] = receiver.received
        assert (path, body) == ("/200?a=b", BODY)
        assert verify(received, body, secrets=[SECRET], now=time.time()) == "msg_a_1"
        assert received["host"] == f"127.0.0.1:{receiver.server_port}"
        assert received.get_all("content-type") == ["application/json"]

    @pytest.mark.parametrize("status", [201, 202, 204, 299])
    def test_every_2xx_is_success(self, receiver, status):
        assert deliver(url(receiver, f"/{status}")) == Answer(status, "")

    @pytest.mark.parametrize("status", [400, 410, 429, 500, 503])
    def test_any_other_status_is_a_failure_that_names_it(self, receiver, status):
        assert deliver(url(receiver, f"/{status}")) == Answer(status, f"answered {status}.")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_a_failure_and_is_not_followed(self, receiver, status):
        answer = deliver(url(receiver, f"/{status}"))
        assert answer.status == status
        assert "a redirect; none is followed" in answer.error
        assert len(receiver.received) == 1

    def test_a_name_in_the_environment_is_no_proxy(self, receiver, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert deliver(url(receiver)).status == 200

    def test_a_port_nobody_listens_on_is_a_failure(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        answer = deliver(f"http://127.0.0.1:{port}/")
        assert (answer.status, "refused" in answer.error) == (None, True)

    def test_a_url_that_may_not_be_registered_is_not_sent_to(self):
        assert "must start with https:// or http://" in deliver("file:///etc/passwd").error


class TestLiars:
    def test_a_length_longer_than_what_comes_changes_nothing(self, speaking):
        def short(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nok")

        assert deliver(speaking(short)) == Answer(200, "")

    def test_a_body_that_never_comes_is_not_awaited_for_long(self, speaking, monkeypatch):
        monkeypatch.setattr(delivery, "DRAIN_SECONDS", 0.2)
        done = threading.Event()

        def silent(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            done.wait(5)

        began = time.monotonic()
        assert deliver(speaking(silent)) == Answer(200, "")
        assert time.monotonic() - began < 2
        done.set()

    def test_no_more_than_four_kilobytes_are_read(self, speaking):
        taken = []

        def endless(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    taken.append(connection.send(b"x" * 65_536))

        began = time.monotonic()
        assert deliver(speaking(endless)) == Answer(200, "")
        assert time.monotonic() - began < 2
        assert sum(taken) < 100_000_000  # what fits in the buffers between us, not the 655 MB offered

    def test_a_header_without_end_is_cut_off(self, speaking):
        def endless(connection):
            with contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000)

        assert deliver(speaking(endless)) == Answer(200, "")

    def test_what_is_not_http_is_a_failure_that_repeats_none_of_it(self, speaking):
        answer = deliver(speaking(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")))
        assert answer == Answer(None, "what answered does not speak HTTP.")

    def test_a_connection_closed_without_a_word_is_a_failure(self, speaking):
        assert "connection" in deliver(speaking(lambda _: None)).error


class TestTime:
    def test_a_receiver_that_says_nothing_is_left_at_the_deadline(self, speaking):
        done, began = threading.Event(), time.monotonic()
        answer = deliver(speaking(lambda _: done.wait(5)), timeout_seconds=0.3)
        assert answer == Answer(None, "no answer within 0.3 seconds.")
        assert time.monotonic() - began < 2
        done.set()

    def test_a_receiver_that_drips_is_left_at_the_same_deadline(self, speaking):
        def drip(connection):
            with contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK" * 20:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)

        began = time.monotonic()
        assert "no answer within 0.5 seconds" in deliver(speaking(drip), timeout_seconds=0.5).error
        assert time.monotonic() - began < 2

    def test_a_receiver_that_takes_nothing_is_left_at_the_same_deadline(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            began = time.monotonic()
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            answer = send(address, b"x" * 64_000_000, {}, allow_private=True, timeout_seconds=0.5)
        assert answer == Answer(None, "no answer within 0.5 seconds.")
        assert time.monotonic() - began < 3

    def test_a_name_server_that_says_nothing_is_left_at_the_same_deadline(self):
        done = threading.Event()
        answer = deliver("http://receiver.test/", timeout_seconds=0.2, resolve=lambda *_: done.wait(5) and [])
        assert answer == Answer(None, "receiver.test was not resolved in time.")
        done.set()


class TestAddresses:
    @pytest.mark.parametrize("host", THIS_MACHINE)
    def test_no_spelling_of_this_machine_gets_through(self, receiver, host):
        answer = deliver(url(receiver, host=host), allow_private=False)
        assert answer.status is None
        # A spelling that this system does not know is as good as refused.
        assert "which no webhook is sent to" in answer.error or "cannot be resolved" in answer.error
        assert receiver.received == []

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("10.1.2.3", "a private address"),
            ("172.31.255.255", "a private address"),
            ("192.168.0.1", "a private address"),
            ("100.64.0.1", "a private address"),
            ("127.255.255.254", "a private address"),
            ("fd12::1", "a private address"),
            ("::ffff:10.0.0.1", "a private address"),
            ("64:ff9b::a00:1", "a private address"),
            ("169.254.169.254", "a link-local or metadata address"),
            ("fe80::1", "a link-local or metadata address"),
            ("fd00:ec2::254", "a link-local or metadata address"),
            ("100.100.100.200", "a link-local or metadata address"),
            ("192.0.0.192", "a link-local or metadata address"),
            ("168.63.129.16", "a link-local or metadata address"),
            ("::ffff:169.254.169.254", "a link-local or metadata address"),
            ("64:ff9b::a9fe:a9fe", "a link-local or metadata address"),
            ("0.0.0.0", "a multicast or reserved address"),
            ("::", "a multicast or reserved address"),
            ("224.0.0.1", "a multicast or reserved address"),
            ("239.255.255.250", "a multicast or reserved address"),
            ("ff02::1", "a multicast or reserved address"),
            ("240.0.0.1", "a multicast or reserved address"),
            ("255.255.255.255", "a multicast or reserved address"),
            ("2002:7f00:1::", "a multicast or reserved address"),
            ("2001:0:7f00:1::", "a multicast or reserved address"),
            ("::127.0.0.1", "a multicast or reserved address"),
            ("192.0.2.1", "an address that is not public"),
            ("198.18.0.1", "an address that is not public"),
            ("0.1.2.3", "an address that is not public"),
            ("fec0::1", "an address that is not public"),
        ],
    )
    def test_what_is_not_public_is_refused(self, address, reason):
        found = refusal(ipaddress.ip_address(address), allow_private=False)
        assert found == reason or (found and reason == "an address that is not public")

    @pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
    def test_what_is_public_is_taken(self, address):
        assert refusal(ipaddress.ip_address(address), allow_private=False) == ""

    @pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", "fd12::1", "100.64.0.1", "::ffff:10.0.0.1"])
    def test_private_networks_can_be_allowed(self, address):
        assert refusal(ipaddress.ip_address(address), allow_private=True) == ""

    @pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "ff02::1"])
    def test_metadata_and_reserved_addresses_never_can(self, address):
        assert refusal(ipaddress.ip_address(address), allow_private=True)

    def test_one_private_address_among_public_ones_refuses_them_all(self):
        answer = deliver("http://receiver.test/", allow_private=False, resolve=lambda *_: ["8.8.8.8", "10.0.0.1"])
        way_out = "(ADAPTERS_WEBHOOKS_PRIVATE=1 on the server allows it)"
        assert answer == Answer(None, f"the URL's host has a private address, which no webhook is sent to {way_out}.")

    def test_a_refusal_does_not_say_which_address_a_name_has(self):
        assert "10." not in deliver("http://a.test/", allow_private=False, resolve=lambda *_: ["10.2.3.4"]).error

    @pytest.mark.parametrize("failure", [socket.gaierror("no such name"), UnicodeError("label too long")])
    def test_a_name_that_is_none_is_a_failure(self, failure):
        def fails(*_):
            raise failure

        assert deliver("http://receiver.test/", resolve=fails) == Answer(None, "receiver.test cannot be resolved.")


class TestPinning:
    def test_the_name_is_resolved_once_and_the_address_that_was_checked_is_the_one_connected_to(self, receiver):
        asked = []

        def rebinding(host, port):
            asked.append((host, port))
            return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

        assert deliver(url(receiver, host="Receiver.test"), resolve=rebinding).status == 200
        assert asked == [("receiver.test", receiver.server_port)]
        [(_, received, _)] = receiver.received
        assert received["host"] == f"Receiver.test:{receiver.server_port}"

    def test_a_name_that_turns_private_after_the_check_is_not_followed_there(self, receiver, monkeypatch):
        dialled = []

        def connect(address, timeout):
            dialled.append(address)
            raise ConnectionRefusedError(111, "Connection refused")

        monkeypatch.setattr(delivery.socket, "create_connection", connect)
        answers = iter([["8.8.8.8"], ["127.0.0.1"]])
        answer = deliver(url(receiver, host="a.test"), allow_private=False, resolve=lambda *_: next(answers))
        assert answer == Answer(None, "the connection failed: Connection refused.")
        assert dialled == [("8.8.8.8", receiver.server_port)]

    def test_the_next_address_is_tried_when_the_first_does_not_answer(self, receiver):
        assert deliver(url(receiver, host="a.test"), resolve=lambda *_: ["::1", "127.0.0.1"]).status == 200


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of receiver.test, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("receiver.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "receiver.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


class TestTls:
    @pytest.fixture
    def secured(self, certificate):
        names = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        server.handle_error = lambda *_: None
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        with running(server):
            server.names = names
            yield server

    def test_the_certificate_is_asked_for_the_name_and_not_for_the_address(self, secured, certificate):
        trusting = ssl.create_default_context(cafile=certificate)
        to = url(secured, host="receiver.test", scheme="https")
        assert deliver(to, resolve=lambda *_: ["127.0.0.1"], tls=trusting) == Answer(200, "")
        assert secured.names == ["receiver.test"]
        assert secured.received[0][1]["host"] == f"receiver.test:{secured.server_port}"

    def test_a_certificate_of_another_name_is_refused(self, secured, certificate):
        trusting = ssl.create_default_context(cafile=certificate)
        to = url(secured, host="other.test", scheme="https")
        answer = deliver(to, resolve=lambda *_: ["127.0.0.1"], tls=trusting)
        assert "not valid for 'other.test'" in answer.error
        assert secured.received == []

    def test_a_certificate_nobody_vouches_for_is_refused(self, secured):
        answer = deliver(url(secured, host="receiver.test", scheme="https"), resolve=lambda *_: ["127.0.0.1"])
        assert answer.error.startswith("TLS failed: self")
        assert secured.received == []

    def test_a_receiver_that_never_shakes_hands_is_left_at_the_deadline(self, speaking):
        done = threading.Event()
        address = speaking(lambda _: done.wait(5)).replace("http://", "https://")
        assert deliver(address, timeout_seconds=0.3) == Answer(None, "no answer within 0.3 seconds.")
        done.set()

    def test_http_where_https_was_meant_is_a_failure(self, receiver):
        assert deliver(url(receiver, scheme="https")).error.startswith("TLS failed: ")
