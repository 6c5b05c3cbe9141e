"""`adapters serve`: the registry over HTTP."""

from __future__ import annotations

import importlib.util
import os
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import click

from adapter_cli import demo_data
from adapter_cli.output import note, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import Unsupported
from adapter_registry.settings import Settings, read_settings

if TYPE_CHECKING:
    import uvicorn


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--public-url", help="What clients reach it by, e.g. https://adapters.example.org behind a proxy.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Server processes.")
@click.option("--no-token", is_flag=True, help="Make and print no token: `adapters admin token` does, when asked.")
@click.option("--demo", is_flag=True, help="Fill an empty store with demo data first, all in the namespace demo.")
def serve(port: int, host: str, public_url: str | None, workers: int, no_token: bool, demo: bool) -> None:
    """Serve the registry to other programs and machines.

    \b
    The adapters command     ADAPTERS_URL and ADAPTERS_TOKEN; every command works as on the embedded registry
    Hugging Face clients     HF_ENDPOINT and HF_TOKEN; hf, huggingface_hub, transformers, PEFT, vLLM, unchanged
    One stage as `main`      HF_ENDPOINT=<server>/~prod

    The first start prints the administrator's token, once. Tokens for others: `adapters token create`.
    Where output goes into a log, use --no-token and `adapters admin token`.
    Needs the server extra: pip install 'adapter-registry[server]'.
    """
    try:
        from adapter_registry.api import asgi as _asgi  # noqa: F401, PLC0415  is everything it needs installed?
    except ImportError as error:
        raise Unsupported(
            f"serving needs {error.name}, which is not installed: pip install 'adapter-registry[server]'."
        ) from error
    from adapter_registry import app  # noqa: PLC0415  importing a database is slow
    from adapter_registry.api import metrics, tracing  # noqa: PLC0415  an extra

    if public_url:
        os.environ["ADAPTERS_PUBLIC_URL"] = public_url
    settings = read_settings()
    if settings.upstream_hub:
        from adapter_registry.outside.upstream import check_hub  # noqa: PLC0415  an HTTP client is slow to import

        check_hub(settings.upstream_hub)
    if settings.traced and not tracing.is_installed():
        note(tracing.MISSING)
    if demo:
        demo_data.check_empty(connect(settings))
    secret = None if no_token else app.first_token(settings)
    app.embedded(settings)  # one process brings the schema up to date and says what is wrong before several do
    if demo:
        say(f"demo data: {demo_data.fill(settings, app.embedded(settings))}", style="green")
    with metrics.shared_counts(workers=workers):
        config = _config(settings, host, port, workers)
        listener = config.bind_socket()
        listener.listen(1024)  # so that whoever reads the address can connect at once
        address = public_url or f"http://{host}:{listener.getsockname()[1]}"
        say(f"serving {settings.store} at {address}", style="green")
        if not no_token:
            say(f"export ADAPTERS_URL={address} ADAPTERS_TOKEN={secret or '<a token of `adapters token create`>'}")
        if secret:
            note("this is the administrator's token; it is shown this once")
        if settings.upstream_hub:
            note(f"models and datasets that are not here are passed on from {settings.upstream_hub}")
        note("Ctrl-C stops it")
        with _worker_beside(settings):
            _run(config, listener)


def _worker_beside(settings: Settings) -> AbstractContextManager[object]:
    """A worker on the embedded store, once there is something to do; elsewhere they are started by themselves."""
    if settings.database_url is not None or not settings.job_worker or importlib.util.find_spec("dbos") is None:
        return nullcontext()
    from adapter_registry.background.workers import Beside  # noqa: PLC0415  importing a database is slow

    return Beside(settings)


def _config(settings: Settings, host: str, port: int, workers: int) -> uvicorn.Config:
    import uvicorn  # noqa: PLC0415  an extra

    from adapter_registry.api.bounds import Connection  # noqa: PLC0415  an extra
    from adapter_registry.api.logs import log_config  # noqa: PLC0415

    return uvicorn.Config(
        "adapter_registry.api.asgi:create",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        log_config=log_config(requests=settings.log_requests),
        access_log=False,
        http=Connection,
        ws="none",
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
    )


def _run(config: uvicorn.Config, listener: socket.socket) -> None:
    if config.workers > 1:
        from uvicorn.supervisors import Multiprocess  # noqa: PLC0415  an extra

        Multiprocess(config, sockets=[listener]).run()
    else:
        import uvicorn  # noqa: PLC0415  an extra

        uvicorn.Server(config).run(sockets=[listener])
