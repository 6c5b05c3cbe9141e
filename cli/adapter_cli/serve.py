"""`adapters serve`: the registry over HTTP."""

from __future__ import annotations

import os

import click

from adapter_cli.output import note, say
from adapter_registry.domain.errors import Unsupported
from adapter_registry.settings import read_settings


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--public-url", help="What clients reach it by, e.g. https://adapters.example.org behind a proxy.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Server processes.")
def serve(port: int, host: str, public_url: str | None, workers: int) -> None:
    """Serve the registry to other programs and machines.

    \b
    The adapters command     ADAPTERS_URL and ADAPTERS_TOKEN; every command works as on the embedded registry
    Hugging Face clients     HF_ENDPOINT and HF_TOKEN; hf, huggingface_hub, transformers, PEFT, vLLM, unchanged
    One stage as `main`      HF_ENDPOINT=<server>/~prod

    The first start prints the administrator's token, once. Tokens for others: `adapters token create`.
    Needs the server extra: pip install 'adapter-registry[server]'.
    """
    try:
        import uvicorn  # noqa: PLC0415  an extra

        from adapter_registry.api import server as _server  # noqa: F401, PLC0415  is everything it needs installed?
        from adapter_registry.api.bounds import Connection  # noqa: PLC0415  an extra
    except ImportError as error:
        raise Unsupported(
            f"serving needs {error.name}, which is not installed: pip install 'adapter-registry[server]'."
        ) from error
    from adapter_registry.app import first_token  # noqa: PLC0415  importing a database is slow

    if public_url:
        os.environ["ADAPTERS_PUBLIC_URL"] = public_url
    settings = read_settings()
    secret = first_token(settings)
    config = uvicorn.Config(
        "adapter_registry.api.asgi:create",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        access_log=False,
        http=Connection,
        ws="none",
        server_header=False,
        proxy_headers=False,
    )
    listener = config.bind_socket()
    listener.listen(1024)  # so that whoever reads the address can connect at once
    address = public_url or f"http://{host}:{listener.getsockname()[1]}"
    say(f"serving {settings.database_url or settings.home} at {address}", style="green")
    if secret:
        say(f"export ADAPTERS_URL={address} ADAPTERS_TOKEN={secret}")
        note("this is the administrator's token; it is shown this once")
    else:
        say(f"export ADAPTERS_URL={address} ADAPTERS_TOKEN=<a token of `adapters token create`>")
    note("Ctrl-C stops it")
    if workers > 1:
        from uvicorn.supervisors import Multiprocess  # noqa: PLC0415  an extra

        Multiprocess(config, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])
