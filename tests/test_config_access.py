"""The files that settings name, looked at before they are needed."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.access import access_problems

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl command to make certificates"
)


def problems(tmp_path: Path, **environ: object) -> list[str]:
    """What is wrong with the files in `environ`; the store is at `tmp_path` unless it says otherwise."""
    variables = {"STORE_PATH": tmp_path} | environ
    return access_problems(load({f"GATEWAY_{name}": str(value) for name, value in variables.items()}))


def make_certificate(directory: Path, name: str, *extra: str) -> tuple[Path, Path]:
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=test",
    ]
    output = ["-keyout", str(key), "-out", str(cert), "-days", "1", *(extra or ["-nodes"])]
    subprocess.run([*command, *output], check=True, capture_output=True)
    return cert, key


def test_a_store_we_can_write_is_fine_and_stays_empty(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_store_we_can_create_is_fine_and_is_not_created(tmp_path: Path) -> None:
    assert problems(tmp_path, STORE_PATH=tmp_path / "a" / "b") == []
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in problems(tmp_path, STORE_PATH=tmp_path / "file")[0]
    assert "cannot be created" in problems(tmp_path, STORE_PATH=tmp_path / "file" / "below")[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_we_may_not_write_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot be written" in problems(tmp_path, STORE_PATH=closed)[0]
    assert "cannot be created" in problems(tmp_path, STORE_PATH=closed / "below")[0]


def test_every_file_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    said = problems(tmp_path, NODE_CA=missing, BACKEND_CA=missing, TLS_CERT=missing, TLS_KEY=missing)
    assert [line.partition("=")[0] for line in said] == [
        "GATEWAY_NODE_CA",
        "GATEWAY_BACKEND_CA",
        "GATEWAY_TLS_CERT",
        "GATEWAY_TLS_KEY",
    ]
    assert all("No such file" in line for line in said)


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("junk")
    assert "has no certificate" in problems(tmp_path, NODE_CA=junk)[0]
    assert "expected PEM files that belong together" in problems(tmp_path, TLS_CERT=junk, TLS_KEY=junk)[0]


@needs_openssl
def test_a_certificate_with_its_key_is_fine(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "one")
    assert problems(tmp_path, TLS_CERT=cert, TLS_KEY=key, NODE_CA=cert) == []


@needs_openssl
def test_a_certificate_with_the_key_of_another_is_refused(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path, "one")
    _, key = make_certificate(tmp_path, "two")
    assert "KEY_VALUES_MISMATCH" in problems(tmp_path, TLS_CERT=cert, TLS_KEY=key)[0]


@needs_openssl
def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "one", "-passout", "pass:geheim")
    assert "the key has a passphrase" in problems(tmp_path, TLS_CERT=cert, TLS_KEY=key)[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_trouble_of_the_disk_is_no_mistake_of_the_settings(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 78 would keep systemd from ever starting us again, although space comes back by itself."""

    def fail(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    assert access_problems(load({"GATEWAY_STORE_PATH": str(tmp_path)})) == []
