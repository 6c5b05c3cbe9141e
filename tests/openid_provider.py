"""A real OpenID provider: django-oauth-toolkit with its own login form, run as a program by `provider()` below.

Its issuer is http://127.0.0.1:<port>/o. People sign in by name and password; PKCE is required; groups are told by the
userinfo endpoint only, everything else by the identity token. The private key lies in the folder, so that a test can
sign what a pipeline would be given, and what an attacker would make.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSWORD = "a long enough one"
CLIENT, SECRET = "adapter-registry", "the client's secret: %&+"


@dataclass(frozen=True)
class ProviderServer:
    """A running provider."""

    url: str
    folder: Path

    @property
    def issuer(self) -> str:
        return f"{self.url}/o"

    @property
    def key(self) -> str:
        """The private key that it signs with, as PEM."""
        return (self.folder / "key.pem").read_text()

    @property
    def key_id(self) -> str:
        return self.published()[0]["kid"]

    def published(self) -> list[dict[str, str]]:
        with urllib.request.urlopen(f"{self.issuer}/.well-known/jwks.json") as answer:
            return json.load(answer)["keys"]

    def settings(self, **more: str) -> dict[str, str]:
        """What a registry server needs to have people sign in here."""
        return {
            "ADAPTERS_OIDC_ISSUER": self.issuer,
            "ADAPTERS_OIDC_CLIENT_ID": CLIENT,
            "ADAPTERS_OIDC_CLIENT_SECRET": SECRET,
            "ADAPTERS_OIDC_LOOPBACK": "1",
            **more,
        }

    def client(self, *redirect_uris: str) -> None:
        """Know the registry server, which comes back at these addresses."""
        self._post("client", {"redirect_uris": " ".join(redirect_uris)})

    def person(self, name: str, *groups: str, email: str = "", verified: bool = True, password: str = PASSWORD) -> None:
        """Know a person, or what they are now."""
        mail = {"email": email, "verified": verified}
        self._post("person", {"name": name, "groups": groups, "password": password, **mail})

    def rename(self, old: str, new: str) -> None:
        self._post("rename", {"old": old, "new": new})

    def rotate(self) -> None:
        """Sign with a fresh key from now on, and publish no other."""
        self._post("rotate", {})

    def token(self, *, key: str | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A signed token for a pipeline, with what such tokens say; None leaves a claim out."""
        import jwt

        now = int(time.time())
        said = {"iss": self.issuer, "aud": "https://adapters.test", "sub": "repo:team/sql-lora:ref:refs/heads/main"}
        said |= {"repository": "team/sql-lora", "ref": "refs/heads/main", "jti": str(time.monotonic_ns())}
        said |= {"iat": now, "nbf": now, "exp": now + 300, **claims}
        kept = {name: value for name, value in said.items() if value is not None}
        named = {"typ": "JWT", "kid": self.key_id, **(headers or {})}
        # Signed as bytes: what no claim should be has to be signed, too.
        return jwt.PyJWS().encode(json.dumps(kept).encode(), key or self.key, algorithm="RS256", headers=named)

    def _post(self, what: str, document: dict[str, Any]) -> None:
        request = urllib.request.Request(f"{self.url}/test/{what}", json.dumps(document).encode())
        urllib.request.urlopen(request).close()


@contextmanager
def provider(folder: Path, port: int = 0) -> Iterator[ProviderServer]:
    """A provider that knows nobody, gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(folder), str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        url = process.stdout.readline().strip()
        assert url, (folder / "log").read_text()
        yield ProviderServer(url, folder)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def _configured(folder: Path) -> None:
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="of a test",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "provider.db"}},
        INSTALLED_APPS=[f"django.contrib.{app}" for app in ("auth", "contenttypes", "sessions")] + ["oauth2_provider"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": [("django.template.loaders.locmem.Loader", {"registration/login.html": _FORM})],
                    "context_processors": ["django.template.context_processors.request"],
                },
            }
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # the usual one takes a quarter of a second
        LOGIN_URL="/login",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH2_PROVIDER=_provider_settings(_fresh_key(folder)),
    )
    django.setup()


_FORM = "<form method=post>{% csrf_token %}{{ form.as_p }}<input type=hidden name=next value='{{ next }}'></form>"


def _provider_settings(key: str) -> dict[str, Any]:
    return {
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": key,
        "PKCE_REQUIRED": True,
        "SCOPES": {"openid": "", "profile": "", "email": ""},
        "OAUTH2_VALIDATOR_CLASS": "tests_openid_validator.Validator",
    }


def _fresh_key(folder: Path) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    text = private.private_bytes(*kinds).decode()
    (folder / "key.pem").write_text(text)
    return text


def _made_validator() -> None:
    """The toolkit imports its validator by name, and its base only after Django is set up."""
    import types

    module = types.ModuleType("tests_openid_validator")

    def __getattr__(name: str) -> Any:
        from oauth2_provider.oauth2_validators import OAuth2Validator

        class Validator(OAuth2Validator):
            oidc_claim_scope = None

            def get_additional_claims(self, request: Any) -> dict[str, Any]:
                user = request.user
                return {
                    "preferred_username": user.username,
                    "email": user.email,
                    "email_verified": user.first_name == "verified",
                }

            def get_userinfo_claims(self, request: Any) -> dict[str, Any]:
                groups = [group.name for group in request.user.groups.all()]
                return {**super().get_userinfo_claims(request), "groups": groups}

        module.Validator = Validator
        return getattr(module, name) if name == "Validator" else None

    module.__getattr__ = __getattr__
    sys.modules[module.__name__] = module


def _control(request: Any, what: str) -> Any:
    from django.contrib.auth.models import Group, User
    from django.http import HttpResponse
    from oauth2_provider.models import Application
    from oauth2_provider.settings import oauth2_settings

    given = json.loads(request.body)
    if what == "client":
        Application.objects.filter(client_id=CLIENT).delete()
        Application.objects.create(
            client_id=CLIENT,
            client_secret=SECRET,
            client_type="confidential",
            authorization_grant_type="authorization-code",
            redirect_uris=given["redirect_uris"],
            algorithm="RS256",
            skip_authorization=True,
        )
    elif what == "person":
        user, _ = User.objects.get_or_create(username=given["name"])
        user.email, user.first_name = given["email"], "verified" if given["verified"] else ""
        user.set_password(given["password"])
        user.save()
        user.groups.set([Group.objects.get_or_create(name=name)[0] for name in given["groups"]])
    elif what == "rename":
        User.objects.filter(username=given["old"]).update(username=given["new"])
    elif what == "rotate":
        from django.conf import settings

        settings.OAUTH2_PROVIDER = _provider_settings(_fresh_key(Path(settings.DATABASES["default"]["NAME"]).parent))
        oauth2_settings.reload()
    return HttpResponse()


def _urls() -> list[Any]:
    from django.contrib.auth.views import LoginView
    from django.urls import include, path
    from django.views.decorators.csrf import csrf_exempt

    return [
        path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
        path("login", LoginView.as_view()),
        path("test/<str:what>", csrf_exempt(_control)),
    ]


def main(folder: Path, port: int) -> None:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIServer, make_server

    global urlpatterns
    _made_validator()
    _configured(folder)
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    call_command("migrate", verbosity=0)
    urlpatterns = _urls()

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    with make_server("127.0.0.1", port, get_wsgi_application(), server_class=Server) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
