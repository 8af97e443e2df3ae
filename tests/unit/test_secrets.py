"""Secrets are read from where they are kept and from nowhere that others can read."""

from __future__ import annotations

import pytest

from forebay import secrets
from forebay.errors import ConfigError


def test_each_kind_of_reference_is_resolved(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN_SECRET", "from-env")
    assert secrets.resolve("env:TOKEN_SECRET") == b"from-env"
    key = tmp_path / "k"
    key.write_bytes(b"from-file\n")
    key.chmod(0o600)
    assert secrets.resolve("file:k", tmp_path) == b"from-file"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secrets.resolve("credential:k") == b"from-file"


def test_a_file_that_others_can_read_is_refused_but_for_systemd_credentials(tmp_path, monkeypatch):
    key = tmp_path / "k"
    key.write_bytes(b"secret")
    key.chmod(0o640)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        secrets.resolve(f"file:{key}")
    assert "0640" in str(caught.value)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secrets.resolve(f"file:{key}") == b"secret"


@pytest.mark.parametrize("ref", ["", "env:", "hunter2", "vault:x", "file:/nowhere/k", "env:NO_SUCH_NAME_1"])
def test_what_cannot_be_resolved_is_a_configuration_error_without_the_text(ref):
    with pytest.raises(ConfigError) as caught:
        secrets.resolve(ref)
    assert "hunter2" not in str(caught.value)


def test_empty_large_and_missing_credentials_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    for name in ("empty", "large", "absent", "../etc"):
        with pytest.raises(ConfigError):
            secrets.resolve(f"credential:{name}")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigError, match="LoadCredential"):
        secrets.resolve("credential:k")
