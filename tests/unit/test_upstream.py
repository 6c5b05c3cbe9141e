"""Where another hub may lead: nowhere that its own address could not be."""

from __future__ import annotations

import anyio
import pytest

from adapter_registry.domain.errors import InvalidReference
from adapter_registry.outside.upstream import Upstream, UpstreamFailed, check_hub

PUBLIC = "https://93.184.216.34"
PRIVATE = "http://10.0.0.5:8080/hub"


def led(hub: str, location: str) -> str:
    """Where `hub` leads by redirecting its first answer to `location`."""
    return anyio.run(Upstream(hub, None)._next, f"{hub}/gpt2/resolve/main/config.json", location)


@pytest.mark.parametrize(
    ("hub", "location", "expected"),
    [
        (PUBLIC, "/api/resolve-cache/x", f"{PUBLIC}/api/resolve-cache/x"),
        (PUBLIC, "https://1.1.1.1/blob?signature=a%2Fb", "https://1.1.1.1/blob?signature=a%2Fb"),
        (PRIVATE, "http://10.0.0.6/blob", "http://10.0.0.6/blob"),
        (PRIVATE, "https://1.1.1.1/blob", "https://1.1.1.1/blob"),
    ],
)
def test_a_redirect_is_followed_within_a_hub_and_to_where_it_keeps_files(hub, location, expected):
    assert led(hub, location) == expected


@pytest.mark.parametrize(
    ("hub", "location"),
    [
        *((PUBLIC, f"https://{host}/x") for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0")),
        *((PUBLIC, f"https://{host}/x") for host in ("2130706433", "0x7f.1", "[::ffff:10.0.0.1]", "1.1.1.1:99999")),
        *((PRIVATE, f"http://{host}/x") for host in ("169.254.169.254", "[fe80::1]", "224.0.0.1")),
        (PUBLIC, "http://1.1.1.1/plain-again"),
        *((PRIVATE, where) for where in ("file:///etc/passwd", "gopher://10.0.0.6/", "http://[", "")),
    ],
)
def test_every_other_redirect_is_refused(hub, location):
    with pytest.raises(UpstreamFailed, match="redirects"):
        led(hub, location)


@pytest.mark.parametrize(
    "url", ["huggingface.co", "ftp://x", "https://", "https://u:p@x", "https://x?a=b", "http://x:0x"]
)
def test_an_address_of_a_hub_is_checked(url):
    with pytest.raises(InvalidReference, match="ADAPTERS_UPSTREAM_HUB"):
        check_hub(url)


def test_a_slash_at_the_end_means_nothing():
    assert check_hub("https://mirror.example/hf/") == "https://mirror.example/hf"
