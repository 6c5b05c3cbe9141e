"""Settings: what of the environment is refused, and what a user without anything needs."""

from __future__ import annotations

import os

import pytest

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.settings import read_settings


def test_a_user_without_a_home_folder_needs_none_where_the_folders_are_named(tmp_path, monkeypatch):
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    named = {"ADAPTERS_HOME": str(tmp_path), "ADAPTERS_CACHE": str(tmp_path / "cache")}
    assert read_settings(named).home == tmp_path
    for missing in named:
        with pytest.raises(InvalidInput, match=missing):
            read_settings({name: value for name, value in named.items() if name != missing})


def test_a_password_is_read_from_its_file_without_the_end_of_the_line(tmp_path):
    (tmp_path / "secret").write_text(" p@ss \n")
    assert read_settings({"ADAPTERS_DATABASE_PASSWORD_FILE": str(tmp_path / "secret")}).database_password == " p@ss "
    with pytest.raises(InvalidInput, match=r"ADAPTERS_DATABASE_PASSWORD_FILE names .*nothing"):
        read_settings({"ADAPTERS_DATABASE_PASSWORD_FILE": str(tmp_path / "nothing")})


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "1e9"])
def test_seconds_that_are_none_are_refused(text):
    with pytest.raises(InvalidInput, match="ADAPTERS_DRAIN_SECONDS"):
        read_settings({"ADAPTERS_DRAIN_SECONDS": text})


def test_proxies_are_addresses_and_networks():
    assert read_settings({"ADAPTERS_PROXIES": "10.0.0.7, fd00::/8"}).proxies == ("10.0.0.7", "fd00::/8")
    with pytest.raises(InvalidInput, match=r"ADAPTERS_PROXIES names 'ingress'"):
        read_settings({"ADAPTERS_PROXIES": "10.0.0.7,ingress"})


def test_a_store_is_named_without_credentials():
    for url, shown in {
        "postgresql+psycopg://u:p@db.example.org:5433/adapters": "PostgreSQL adapters at db.example.org:5433",
        "postgresql://u@/adapters?host=/run/postgresql&password=p": "PostgreSQL adapters at a socket",
        "postgresql://u:p@[bad/adapters": "PostgreSQL",
    }.items():
        assert read_settings({"ADAPTERS_DATABASE_URL": url}).store == shown


def test_sources_of_bases_are_folders_and_repositories_and_nothing_relative(tmp_path):
    assert read_settings({}).base_sources is None
    assert read_settings({"ADAPTERS_BASE_SOURCES": ""}).base_sources == ()
    given = f"{tmp_path}, hf://org"
    assert read_settings({"ADAPTERS_BASE_SOURCES": given}).base_sources == (str(tmp_path), "hf://org")
    with pytest.raises(InvalidInput, match=r"ADAPTERS_BASE_SOURCES names 'models'"):
        read_settings({"ADAPTERS_BASE_SOURCES": "models"})
