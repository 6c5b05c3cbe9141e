"""`adapters serve`: the registry over HTTP, on this machine."""

from __future__ import annotations

import ipaddress

import click

from adapter_cli.output import note, say
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.settings import read_settings


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
def serve(port: int, host: str) -> None:
    """Serve the embedded registry to other programs of this machine.

    Clients set ADAPTERS_URL and ADAPTERS_TOKEN; every command then works as it does on the embedded registry, and
    faster, because nothing has to be opened. There are no users and roles yet, so it listens on loopback addresses
    only. Needs the server extra: pip install 'adapter-registry[server]'.
    """
    if not _is_loopback(host):
        raise InvalidInput(
            f"{host} is not a loopback address; nothing was started. Without users and roles the registry is not "
            "served to a network: use 127.0.0.1, or a tunnel that checks who connects."
        )
    try:
        import uvicorn  # noqa: PLC0415  an extra

        from adapter_registry.api.server import make_app  # noqa: PLC0415
    except ImportError as error:
        raise Unsupported(
            f"serving needs {error.name}, which is not installed: pip install 'adapter-registry[server]'."
        ) from error
    from adapter_registry.app import embedded, server_token  # noqa: PLC0415  importing a database is slow

    settings = read_settings()
    token, fresh = server_token(settings)
    server = uvicorn.Server(
        uvicorn.Config(make_app(embedded(settings), token=token), host=host, port=port, log_level="warning")
    )
    listener = server.config.bind_socket()
    listener.listen()  # so that whoever reads the address can connect at once
    address = f"http://{host}:{listener.getsockname()[1]}"
    say(f"serving {settings.home} at {address}", style="green")
    shown = token if fresh else f"$(cat {settings.home}/server-token)"
    say(f"export ADAPTERS_URL={address} ADAPTERS_TOKEN={shown}")
    note("Ctrl-C stops it")
    server.run(sockets=[listener])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
