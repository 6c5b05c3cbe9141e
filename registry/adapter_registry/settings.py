"""Settings: environment and platform folders -> one frozen value; the only reader of os.environ."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from adapter_registry.domain.names import DEFAULT_NAMESPACE, check_namespace
from adapter_registry.domain.reference import split_adapter

PACKAGE = Path(__file__).parent


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
        pointer_key: the public key that the server's pointers must be signed with (ADAPTERS_POINTER_KEY); None trusts
            the first one it shows.
        database_url: `postgresql+psycopg://...` in place of the SQLite file (ADAPTERS_DATABASE_URL).
        blobs_url: `s3://bucket/prefix` in place of the blob folder (ADAPTERS_BLOBS_URL).
        public_url: the address that clients reach the server by (ADAPTERS_PUBLIC_URL).
        log_requests: whether the server writes a line of JSON per request to standard error (ADAPTERS_LOG_REQUESTS).
        hosts: further values of `Host` that the server answers to, comma-separated (ADAPTERS_HOSTS).
        private_webhooks: whether webhooks may go to private addresses (ADAPTERS_WEBHOOKS_PRIVATE).
        upstream_hub: the hub that the server passes on repositories from which are not here (ADAPTERS_UPSTREAM_HUB).
        upstream_token: that hub's token (ADAPTERS_UPSTREAM_TOKEN).
    """

    home: Path
    cache: Path
    namespace: str
    adapter: str | None
    actor: str
    url: str | None = None
    token: str | None = None
    pointer_key: str | None = None
    database_url: str | None = None
    blobs_url: str | None = None
    public_url: str | None = None
    hosts: tuple[str, ...] = ()
    log_requests: bool = False
    private_webhooks: bool = False
    upstream_hub: str | None = None
    upstream_token: str | None = None

    @property
    def database(self) -> Path:
        """The SQLite file of the embedded store."""
        return self.home / "registry.db"

    @property
    def blobs(self) -> Path:
        """The blob folder of the embedded store."""
        return self.home / "blobs"

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
    """
    given = os.environ if environment is None else environment
    namespace = check_namespace(given.get("ADAPTERS_NAMESPACE") or DEFAULT_NAMESPACE)
    in_use = given.get("ADAPTERS_ADAPTER")
    return Settings(
        home=_folder(given.get("ADAPTERS_HOME"), platformdirs.user_data_path("adapters")),
        cache=_folder(given.get("ADAPTERS_CACHE"), platformdirs.user_cache_path("adapters")),
        namespace=namespace,
        adapter="/".join(split_adapter(in_use, namespace=namespace)) if in_use else None,
        actor=given.get("ADAPTERS_ACTOR") or _login(),
        url=given.get("ADAPTERS_URL") or None,
        token=given.get("ADAPTERS_TOKEN") or None,
        pointer_key=given.get("ADAPTERS_POINTER_KEY") or None,
        database_url=given.get("ADAPTERS_DATABASE_URL") or None,
        blobs_url=given.get("ADAPTERS_BLOBS_URL") or None,
        log_requests=_is_on(given, "ADAPTERS_LOG_REQUESTS"),
        private_webhooks=_is_on(given, "ADAPTERS_WEBHOOKS_PRIVATE"),
        public_url=given.get("ADAPTERS_PUBLIC_URL") or None,
        upstream_hub=given.get("ADAPTERS_UPSTREAM_HUB") or None,
        upstream_token=given.get("ADAPTERS_UPSTREAM_TOKEN") or None,
        hosts=tuple(host.strip() for host in given.get("ADAPTERS_HOSTS", "").split(",") if host.strip()),
    )


def migrations_folder() -> Path:
    """Alembic's folder, in a wheel or in a checkout."""
    shipped = PACKAGE / "_migrations"
    return shipped if shipped.is_dir() else PACKAGE.parent.parent / "migrations"


def _is_on(given: Mapping[str, str], name: str) -> bool:
    return given.get(name, "").lower() in ("1", "true", "yes")


def _folder(given: str | None, default: Path) -> Path:
    return Path(given).expanduser().absolute() if given else default


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
