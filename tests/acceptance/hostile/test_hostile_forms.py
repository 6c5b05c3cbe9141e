"""Forms that no page of ours sends: every one of them is answered by a sentence, and never by a defect."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

import pytest

from tests.acceptance.hostile.routes import PAGES, Route
from tests.acceptance.hostile.test_hostile_bodies import PLAY, WRONG

pytestmark = pytest.mark.xdist_group("hostile-forms")
SENT = [route for route in PAGES if route.method == "POST"]
FORM = "application/x-www-form-urlencoded"
PLACES = ["²", "\u202ex", "x" * 300, "'; DROP TABLE versions; --", "victim%2Fsecret", "..", "v0", "-1", "9" * 40, "<b>"]
BODIES = {
    "empty": (b"", FORM),
    "JSON": (b'{"reason": "x"}', "application/json"),
    "plain": (b"reason=x", "text/plain"),
    "XML": (b"<a/>", "application/xml"),
    "no type": (b"reason=x", ""),
    "not UTF-8": (b"reason=\xff\xfe&%ff=%ff", FORM),
    "NUL": (b"reason=a%00b&to%00=1", FORM),
    "many fields": (urlencode([(f"f{number}", "x") for number in range(1100)]).encode(), FORM),
    "giant": (b"reason=" + b"x" * 1_100_000, FORM),
    "signs alone": (b"&&==&=&;;", FORM),
    "multipart without boundary": (b"--x\r\n", "multipart/form-data"),
    "multipart with an odd boundary": (b"--x\r\n", 'multipart/form-data; boundary="' + "y" * 200 + '"'),
    "multipart of garbage": (b"x" * 1000, "multipart/form-data; boundary=x"),
    "mixed": (b"--x\r\n\r\n1\r\n--x--\r\n", "multipart/mixed; boundary=x"),
    "file in a field": (
        b'--x\r\nContent-Disposition: form-data; name="reason"; filename="r"\r\n\r\nx\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
    ),
}
# A form that holds nothing wrong may be carried out: none of these is of something that other tests need.
WELL_FORMED = ("empty", "JSON", "plain", "XML", "no type", "signs alone", "file in a field", "mixed")


def sent(site, target: str, body: bytes, media: str = FORM):
    """What is answered to a form; a refusal has words."""
    headers = [("Content-Type", media)] if media else []
    answer = site.ask("POST", target, by="admin", body=body, headers=headers)
    assert answer.status < 500, (target, body[:80], answer)
    if answer.status >= 400:
        words = re.sub(rb"<[^>]+>", b" ", answer.body.partition(b"<main")[2] or answer.body)
        assert len(words.split()) > 4, (target, body[:80], answer)
    return answer


def played(site, route: Route) -> str:
    return site.places("mallory/spent", **PLAY)(route.template)


def fields_of(site, target: str) -> list[str]:
    """What the forms of a page ask for."""
    page = site.ask("GET", target, by="admin").body.decode()
    main = page.partition("<main")[2]
    return sorted(set(re.findall(r'<(?:input|select|textarea|button)[^>]* name="([^"]+)"', main)) - {"csrf"})


@pytest.mark.parametrize("route", SENT, ids=str)
@pytest.mark.parametrize("kind", BODIES)
def test_what_is_no_form_of_ours_gets_a_sentence(site, route, kind):
    body, media = BODIES[kind]
    answer = sent(site, played(site, route), body, media)
    if kind not in WELL_FORMED:
        assert 400 <= answer.status < 500, answer


@pytest.mark.usefixtures("nothing_open")
@pytest.mark.parametrize("route", SENT, ids=str)
def test_no_value_of_a_field_is_a_defect(site, route):
    target = played(site, route)
    names = fields_of(site, target) or ["reason"]
    for value in WRONG.values():
        text = value if isinstance(value, str) else str(value)
        for name in names:
            others = {other: "x" for other in names if other != name}
            sent(site, target, urlencode({**others, name: text}).encode())
        sent(site, target, urlencode([(name, text) for name in names for _ in (1, 2)]).encode())


@pytest.mark.usefixtures("nothing_open")
@pytest.mark.parametrize("route", [route for route in SENT if route.places], ids=str)
def test_no_place_in_an_address_is_a_defect(site, route):
    for place in route.places:
        for value in PLACES:
            shown = value if "%" in value else quote(value, safe="")
            template = route.template.replace(f"{{{place}}}", shown)
            sent(site, site.places("mallory/spent", **PLAY)(template), b"reason=x")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", SENT, ids=str)
def test_without_the_sessions_key_nothing_is_done(site, route):
    target = played(site, route)
    cookie = [("Cookie", f"adapters_session={site.tokens['admin']}"), ("Content-Type", FORM)]
    for body in (b"", b"csrf=", b"csrf=%s" % (b"0" * 64), b"csrf=x&csrf=y", "csrf=²".encode()):
        assert site.ask("POST", target, by="nobody", body=body, headers=cookie).status == 403


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", [route for route in SENT if "{adapter_name}" in route.template], ids=str)
def test_what_is_anothers_is_not_there(site, route):
    target = site.places("victim/secret", **PLAY)(route.template)
    answer = site.ask("POST", target, body=b"reason=x", headers=[("Content-Type", FORM)])
    assert answer.status == 404
    assert b"canary" not in answer.body


def test_none_of_this_was_a_defect(site):
    assert "Traceback" not in site.hub.log(), site.hub.log()[-3000:]
