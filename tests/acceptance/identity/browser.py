"""A person with a browser: follows redirects, keeps cookies, fills in the provider's form."""

from __future__ import annotations

import html
import re
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.openid_provider import PASSWORD


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Browser:
    """One browser: its cookies are its own."""

    def __init__(self) -> None:
        self._cookies = urllib.request.HTTPCookieProcessor(CookieJar())

    def get(self, url: str) -> tuple[int, str, str]:
        """(status, the address it ended at, the page)."""
        return self._asked(urllib.request.build_opener(self._cookies), url)

    def begins_on_a_page(self, server: str) -> str:
        """Press the provider's button at the door of the pages: the address that it leads to."""
        opener = urllib.request.build_opener(self._cookies)
        status, _, page = self._asked(opener, f"{server}/ui/sign-in/provider", b"")
        assert status == 200, page
        return html.unescape(re.search(r'href="([^"]*/auth/[^"]+)"', page)[1])

    def where(self, url: str) -> str:
        """Where an address redirects to, without going there."""
        opener = urllib.request.build_opener(self._cookies, _Stay)
        try:
            opener.open(url, timeout=30).close()
        except urllib.error.HTTPError as answer:
            answer.close()
            return answer.headers["location"]
        raise AssertionError(f"{url} does not redirect")

    def signs_in(self, url: str, name: str, *, password: str = PASSWORD) -> tuple[int, str, str]:
        """Open an address that leads to the provider's form, and fill it in."""
        _, at, page = self.get(url)
        assert "password" in page, (at, page)
        return self._asked(urllib.request.build_opener(self._cookies), at, self._form(page, name, password))

    def signs_in_up_to_the_return(self, url: str, name: str) -> str:
        """The same, stopping before it comes back to our server: the address it would go to."""
        _, at, page = self.get(url)
        opener = urllib.request.build_opener(self._cookies, _Stay)
        try:
            opener.open(at, self._form(page, name, PASSWORD), timeout=30).close()
        except urllib.error.HTTPError as answer:
            answer.close()
            return self.where(urllib.parse.urljoin(at, answer.headers["location"]))
        raise AssertionError("the provider did not take the password")

    def _form(self, page: str, name: str, password: str) -> bytes:
        hidden = dict(re.findall(r"<input type=['\"]?hidden['\"]? name=['\"]?(\w+)['\"]? value=['\"]([^'\"]*)", page))
        filled = {"username": name, "password": password}
        return urlencode({**{name: html.unescape(text) for name, text in hidden.items()}, **filled}).encode()

    def _asked(self, opener, url: str, form: bytes | None = None) -> tuple[int, str, str]:
        request = urllib.request.Request(url, form, {"Referer": url})
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.url, answer.read().decode()


def changed(url: str, **query: str) -> str:
    """An address with other values in its query."""
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **query})).geturl()


def code_on(page: str) -> str:
    """The code that a page shows at the end."""
    return re.search(r"<strong id=code>([A-Z0-9-]+)</strong>", page)[1]
