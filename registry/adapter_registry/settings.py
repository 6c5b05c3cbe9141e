"""Settings: environment and platform folders -> one frozen value; the only reader of os.environ."""

from __future__ import annotations

import getpass
import ipaddress
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.names import DEFAULT_NAMESPACE, check_namespace
from adapter_registry.domain.people.sign_in import Provider, rules_of
from adapter_registry.domain.people.trust import check_issuer
from adapter_registry.domain.reference import split_adapter

PACKAGE = Path(__file__).parent
_SPANS_GO_TO = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_LONGEST_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Login:
    """A server and a token that `adapters login` kept; `made` says whether it had the token made, and may revoke it."""

    url: str
    token: str
    made: bool


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves adapters: the plugins, in the process of the stack, and what is made for the others.

    Attributes:
        follow: `NAME=NAMESPACE/ADAPTER@STAGE`, as written (ADAPTERS_FOLLOW, comma-separated).
        adapters: patterns of adapters that requests may name (ADAPTERS_SERVING_ADAPTERS); empty for all.
        base: folder of the checkpoint that runs (ADAPTERS_SERVING_BASE); None: where the stack's model is found.
        check: how it is held against locks, `spot` or `full` (ADAPTERS_SERVING_CHECK).
        gguf_converter: command line of llama.cpp's converter (ADAPTERS_GGUF_CONVERTER); None looks on the PATH.
    """

    follow: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    base: Path | None = None
    check: str = "spot"
    gguf_converter: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are, and who asks.

    Attributes:
        home: folder of the embedded store (ADAPTERS_HOME).
        cache: folder of file digests computed before (ADAPTERS_CACHE).
        namespace: what an adapter name without one belongs to (ADAPTERS_NAMESPACE).
        adapter: `namespace/name` that a bare `v3` belongs to (ADAPTERS_ADAPTER); None when not set.
        actor: who asks (ADAPTERS_ACTOR, else the login name).
        url: a registry server to ask instead of the embedded store (ADAPTERS_URL); None for the embedded one.
        token: that server's token (ADAPTERS_TOKEN).
        answer_seconds: how long that server may say nothing before it counts as one that does not answer.
        pointer_key: the public key that the server's pointers must be signed with (ADAPTERS_POINTER_KEY); None trusts
            the first one it shows.
        database_url: `postgresql+psycopg://...` in place of the SQLite file (ADAPTERS_DATABASE_URL).
        database_password: goes with it, read from a file (ADAPTERS_DATABASE_PASSWORD_FILE).
        blobs_url: `s3://bucket/prefix` in place of the blob folder (ADAPTERS_BLOBS_URL).
        blobs_public_url: what clients reach the bucket's store by (ADAPTERS_BLOBS_PUBLIC_URL); None: by the same.
        public_url: the address that clients reach the server by (ADAPTERS_PUBLIC_URL).
        log_requests: whether the server writes a line of JSON per request to standard error (ADAPTERS_LOG_REQUESTS).
        hosts: further values of `Host` that the server answers to, comma-separated (ADAPTERS_HOSTS).
        proxies: addresses and networks of proxies whose word on a client's address is taken (ADAPTERS_PROXIES).
        private_webhooks: whether webhooks may go to private addresses (ADAPTERS_WEBHOOKS_PRIVATE).
        upstream_hub: the hub that the server passes on repositories from which are not here (ADAPTERS_UPSTREAM_HUB).
        upstream_token: that hub's token (ADAPTERS_UPSTREAM_TOKEN).
        drain_seconds: how long a server told to stop goes on taking requests (ADAPTERS_DRAIN_SECONDS).
        grace_seconds: how long it then waits for requests under way (ADAPTERS_GRACE_SECONDS).
        scratch: folder that jobs work in (ADAPTERS_SCRATCH); shared between machines, it lets them share large work.
        base_sources: folders and Hub repositories that bases may be taken from by where they were registered from
            (ADAPTERS_BASE_SOURCES); None: anywhere, but nowhere for the jobs of a store that others write to.
        job_worker: whether the server runs a worker of its own on the embedded store (ADAPTERS_JOB_WORKER).
        job_memory: bytes that one job may take (ADAPTERS_JOB_MEMORY_GB).
        job_seconds: how long one job may take (ADAPTERS_JOB_SECONDS).
        job_limit: how many jobs of one queue run at a time on all workers (ADAPTERS_JOB_LIMIT); 0 for no limit.
        traced: whether the standard OTEL_* variables name a place for spans.
        login: the file that holds the server and token of `adapters login`.
        provider: the OpenID provider that people sign in by (ADAPTERS_OIDC_ISSUER, ...); None for passwords alone.
        oidc_loopback: whether providers may be asked over http on this machine (ADAPTERS_OIDC_LOOPBACK).
        serving: what the plugins of serving stacks do.
    """

    home: Path
    cache: Path
    namespace: str
    adapter: str | None
    actor: str
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    answer_seconds: float = 300
    pointer_key: str | None = None
    database_url: str | None = field(default=None, repr=False)
    database_password: str | None = field(default=None, repr=False)
    blobs_url: str | None = None
    blobs_public_url: str | None = None
    public_url: str | None = None
    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    log_requests: bool = False
    private_webhooks: bool = False
    upstream_hub: str | None = None
    upstream_token: str | None = field(default=None, repr=False)
    drain_seconds: float = 0
    grace_seconds: float = 30
    scratch: Path = Path("jobs")
    base_sources: tuple[str, ...] | None = None
    job_worker: bool = True
    job_memory: int = 24 << 30
    job_seconds: float = 86_400
    job_limit: int = 0
    traced: bool = False

    @property
    def store(self) -> str:
        """What the catalog lies in, for people: a folder, or the database's place without its credentials."""
        if self.database_url is None:
            return str(self.home)
        try:
            parts = urlsplit(self.database_url)
            return f"PostgreSQL {parts.path.strip('/')} at {parts.netloc.rpartition('@')[2] or 'a socket'}"
        except ValueError:
            return "PostgreSQL"

    login: Path = Path("login.json")
    provider: Provider | None = None
    oidc_loopback: bool = False
    serving: Serving = Serving()

    @property
    def database(self) -> Path:
        """The SQLite file of the embedded store."""
        return self.home / "registry.db"

    @property
    def blobs(self) -> Path:
        """The blob folder of the embedded store."""
        return self.home / "blobs"

    @property
    def queue(self) -> Path:
        """The SQLite file of the job engine."""
        return self.home / "queue.db"

    @property
    def workers(self) -> Path:
        """Folder of the locks by which workers of the embedded store show that they live, and of their logs."""
        return self.home / "workers"

    @property
    def context(self) -> Path:
        """Which adapter is in use in which folder."""
        return self.home / "in-use.json"

    @property
    def pointers(self) -> Path:
        """Which pointers of servers were believed here."""
        return self.home / "pointers.json"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The Settings of `environment` (default: the process's own).

    Raises:
        InvalidReference: ADAPTERS_NAMESPACE or ADAPTERS_ADAPTER is not a name.
        InvalidInput: a number or network that is none, a file of a secret that cannot be read, settings that do not
            make a provider, or a damaged file of `adapters login`.
    """
    given = os.environ if environment is None else environment
    login = _folder(given, "ADAPTERS_HOME", platformdirs.user_config_path) / "login.json"
    url, token = _reached(given, login)
    namespace = check_namespace(given.get("ADAPTERS_NAMESPACE") or DEFAULT_NAMESPACE)
    in_use = given.get("ADAPTERS_ADAPTER")
    return Settings(
        home=_folder(given, "ADAPTERS_HOME", _data),
        cache=_folder(given, "ADAPTERS_CACHE", platformdirs.user_cache_path),
        namespace=namespace,
        adapter="/".join(split_adapter(in_use, namespace=namespace)) if in_use else None,
        actor=given.get("ADAPTERS_ACTOR") or _login(),
        pointer_key=given.get("ADAPTERS_POINTER_KEY") or None,
        url=url,
        token=token,
        login=login,
        database_url=given.get("ADAPTERS_DATABASE_URL") or None,
        database_password=_secret(given, "ADAPTERS_DATABASE_PASSWORD_FILE"),
        blobs_url=given.get("ADAPTERS_BLOBS_URL") or None,
        log_requests=_on(given, "ADAPTERS_LOG_REQUESTS"),
        private_webhooks=_on(given, "ADAPTERS_WEBHOOKS_PRIVATE"),
        blobs_public_url=given.get("ADAPTERS_BLOBS_PUBLIC_URL") or None,
        public_url=given.get("ADAPTERS_PUBLIC_URL") or None,
        upstream_hub=given.get("ADAPTERS_UPSTREAM_HUB") or None,
        upstream_token=given.get("ADAPTERS_UPSTREAM_TOKEN") or None,
        hosts=_listed(given, "ADAPTERS_HOSTS"),
        proxies=_networks(given, "ADAPTERS_PROXIES"),
        drain_seconds=_seconds(given, "ADAPTERS_DRAIN_SECONDS", 0),
        grace_seconds=_seconds(given, "ADAPTERS_GRACE_SECONDS", 30),
        scratch=_folder(given, "ADAPTERS_SCRATCH", lambda _: _folder(given, "ADAPTERS_HOME", _data) / "jobs"),
        base_sources=_sources(given),
        job_worker=given.get("ADAPTERS_JOB_WORKER", "").lower() not in ("0", "false", "no"),
        job_memory=round(_number(given, "ADAPTERS_JOB_MEMORY_GB", _memory_gb(), least=0.01, most=1e6) * 1e9),
        job_seconds=_number(given, "ADAPTERS_JOB_SECONDS", 86_400, least=1, most=30 * 86_400),
        job_limit=round(_number(given, "ADAPTERS_JOB_LIMIT", 0, least=0, most=1e6)),
        traced=any(given.get(name) for name in _SPANS_GO_TO) and given.get("OTEL_TRACES_EXPORTER") != "none",
        provider=_provider(given),
        oidc_loopback=_on(given, "ADAPTERS_OIDC_LOOPBACK"),
        serving=_serving(given),
    )


def migrations_folder() -> Path:
    """Alembic's folder, in a wheel or in a checkout."""
    shipped = PACKAGE / "_migrations"
    return shipped if shipped.is_dir() else PACKAGE.parent.parent / "migrations"


def web_folder() -> Path:
    """Templates, styles and scripts of the pages, in a wheel or in a checkout."""
    shipped = PACKAGE / "_web"
    return shipped if shipped.is_dir() else PACKAGE.parent.parent / "web"


def _reached(given: Mapping[str, str], login: Path) -> tuple[str | None, str | None]:
    """(server, token): of the environment, else of `adapters login`; an ADAPTERS_URL that is empty means neither."""
    url, token = given.get("ADAPTERS_URL"), given.get("ADAPTERS_TOKEN") or None
    if url == "" or (url and token):
        return url or None, token
    kept = read_login(login)
    if kept is None or (url and url.rstrip("/") != kept.url):
        return url, token
    return url or kept.url, token or kept.token


def read_login(path: Path) -> Login | None:
    """What `adapters login` kept; None when nobody is signed in.

    Raises:
        InvalidInput: the file is not what it wrote.
    """
    try:
        document = json.loads(path.read_bytes())
        return Login(str(document["url"]), str(document["token"]), document["made"] is True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path} is not readable ({error}); remove it and sign in again: `adapters login`."
        ) from error


def _provider(given: Mapping[str, str]) -> Provider | None:
    issuer, client = given.get("ADAPTERS_OIDC_ISSUER"), given.get("ADAPTERS_OIDC_CLIENT_ID")
    if not issuer:
        return None
    if not client:
        raise InvalidInput("ADAPTERS_OIDC_ISSUER is set and ADAPTERS_OIDC_CLIENT_ID is not: the provider knows it.")
    domains = given.get("ADAPTERS_OIDC_DOMAINS", "").lower().split(",")
    return Provider(
        issuer=check_issuer(issuer),
        client_id=client,
        client_secret=given.get("ADAPTERS_OIDC_CLIENT_SECRET") or None,
        scopes=given.get("ADAPTERS_OIDC_SCOPES") or "openid profile email",
        groups_claim=given.get("ADAPTERS_OIDC_GROUPS_CLAIM") or "groups",
        rules=rules_of(given.get("ADAPTERS_OIDC_GRANTS", "")),
        domains=tuple(domain.strip().removeprefix("@") for domain in domains if domain.strip()),
    )


def _serving(given: Mapping[str, str]) -> Serving:
    check, base = given.get("ADAPTERS_SERVING_CHECK") or "spot", given.get("ADAPTERS_SERVING_BASE")
    if check not in ("spot", "full"):
        raise InvalidInput(f"ADAPTERS_SERVING_CHECK is {check[:40]!r}: expected spot or full.")
    return Serving(
        follow=_listed(given, "ADAPTERS_FOLLOW"),
        adapters=_listed(given, "ADAPTERS_SERVING_ADAPTERS"),
        base=Path(base).expanduser().absolute() if base else None,
        check=check,
        gguf_converter=given.get("ADAPTERS_GGUF_CONVERTER") or None,
    )


def _listed(given: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(text.strip() for text in given.get(name, "").split(",") if text.strip())


def _networks(given: Mapping[str, str], name: str) -> tuple[str, ...]:
    found = _listed(given, name)
    for text in found:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise InvalidInput(f"{name} names {text[:60]!r}: expected addresses and networks, 10.1.0.0/16.") from error
    return found


def _sources(given: Mapping[str, str]) -> tuple[str, ...] | None:
    text = given.get("ADAPTERS_BASE_SOURCES")
    if text is None:
        return None
    found = tuple(each.strip() for each in text.split(",") if each.strip())
    relative = [each for each in found if not each.startswith(("hf://", "/", "~"))]
    if relative:
        raise InvalidInput(
            f"ADAPTERS_BASE_SOURCES names {relative[0]!r}: expected absolute folders, hf://, hf://org or "
            "hf://org/repo, comma-separated."
        )
    return tuple(each if each.startswith("hf://") else str(Path(each).expanduser()) for each in found)


def _on(given: Mapping[str, str], name: str) -> bool:
    return given.get(name, "").lower() in ("1", "true", "yes")


def _folder(given: Mapping[str, str], name: str, default: Callable[[str], Path]) -> Path:
    text = given.get(name)
    try:
        return Path(text).expanduser().absolute() if text else default("adapters")
    except RuntimeError as error:  # a user of a container has neither HOME nor a line in /etc/passwd
        raise InvalidInput(f"this user has no home folder: set {name} to a folder that it may write to.") from error


def _secret(given: Mapping[str, str], name: str) -> str | None:
    """What the file that a variable names holds, without the line's end."""
    path = given.get(name)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InvalidInput(f"{name} names {path}, which cannot be read ({reason}).") from error


def _seconds(given: Mapping[str, str], name: str, default: float) -> float:
    return _number(given, name, default, least=0, most=_LONGEST_SECONDS)


def _number(given: Mapping[str, str], name: str, default: float, *, least: float, most: float) -> float:
    text = given.get(name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise InvalidInput(f"{name} is {text!r}: expected a number, {least:,g} to {most:,.0f}.")
    return number


def _data(name: str) -> Path:
    return platformdirs.user_data_path(name)


def _memory_gb() -> float:
    """Four fifths of this machine's memory; 16 GB where the system does not tell."""
    try:
        return 0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        return 16.0


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
