"""Secret sources with the real programs age and sops."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.secrets.encrypted import AgeFile, SopsFile
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

SOPS = str(Path(sys.executable).with_name("sops"))
VALUES = {
    "db_username": "ktrdr",
    "db_password": "vF3k'\"$`\\Qz8 é日本",
    "jwt_secret": "c9Rk2VtYh7WqLm4ZxNs8BpDf1GjQw5Ea\n",
    "grafana_password": "J7hTq2ZrVn5KxWm9",
    "ghcr_token": "ghp_x",
}
EXPECTED = {name: Secret(value) for name, value in VALUES.items()}

pytestmark = pytest.mark.skipif(
    not shutil.which("age"), reason="needs the program age: scripts/apt-need age"
)


def run(*command: str, given: bytes | None = None, **environment: str) -> bytes:
    return subprocess.run(
        command, input=given, capture_output=True, check=True, env={**os.environ, **environment}
    ).stdout


class Keys:
    """Private key in a file, and its public key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        run("age-keygen", "--output", str(path))
        self.public = run("age-keygen", "-y", str(path)).decode().strip()

    @property
    def private(self) -> str:
        return self.path.read_text().splitlines()[-1]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "mine.txt")


@pytest.fixture(scope="module")
def others_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "theirs.txt")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Provide an environment without a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SOPS_")}
    return {
        **kept,
        "PATH": f"{Path(SOPS).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


@pytest.fixture
def age_file(tmp_path: Path, keys: Keys) -> Callable[[bytes], Path]:
    def make(plaintext: bytes, *options: str) -> Path:
        path = tmp_path / "secrets.age"
        encrypted = run("age", "--encrypt", "--recipient", keys.public, *options, given=plaintext)
        path.write_bytes(encrypted)
        return path

    return make


@pytest.fixture
def sops_file(tmp_path: Path, keys: Keys) -> Callable[[str], Path]:
    def make(plaintext: str, name: str = "secrets.yaml") -> Path:
        path = tmp_path / name
        path.write_text(plaintext)
        run(SOPS, "encrypt", "--in-place", str(path), SOPS_AGE_RECIPIENTS=keys.public)
        return path

    return make


def fetch_error(source: AgeFile | SopsFile) -> str:
    with pytest.raises(SecretsError) as caught:
        source.fetch()
    assert caught.value.hint
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"
    return str(caught.value)


@pytest.mark.parametrize("options", [(), ("--armor",)])
def test_age_files_are_read(age_file, keys, options) -> None:
    file = age_file(json.dumps(VALUES, ensure_ascii=False).encode(), *options)
    assert AgeFile(file, keys.path).fetch() == EXPECTED


def test_age_takes_the_key_from_the_environment(age_file, keys, environment) -> None:
    file = age_file(json.dumps(VALUES).encode())
    for variable, value in (
        ("SOPS_AGE_KEY", keys.private),
        ("SOPS_AGE_KEY_FILE", str(keys.path)),
    ):
        source = AgeFile(file, environment={**environment, variable: value})
        assert source.fetch() == EXPECTED


def test_age_and_sops_find_the_key_in_the_same_place(
    age_file, sops_file, keys, environment, tmp_path
) -> None:
    place = tmp_path / "config/sops/age/keys.txt"
    place.parent.mkdir(parents=True)
    shutil.copy(keys.path, place)
    encrypted = age_file(json.dumps(VALUES).encode())
    assert AgeFile(encrypted, environment=environment).fetch() == EXPECTED
    file = sops_file(json.dumps(VALUES), "secrets.json")
    assert SopsFile(file, environment=environment).fetch() == EXPECTED


@pytest.mark.parametrize("name", ["secrets.yaml", "secrets.json"])
def test_sops_files_are_read(sops_file, keys, environment, name) -> None:
    file = sops_file(json.dumps(VALUES, ensure_ascii=False), name)
    source = SopsFile(file, keys.path, environment=environment)
    assert source.fetch() == EXPECTED


def test_a_wrong_key_is_named(age_file, sops_file, others_keys, environment) -> None:
    file = age_file(b"db_password: hunter22")
    assert fetch_error(AgeFile(file, others_keys.path)) == (
        f"the private key in {others_keys.path} cannot decrypt {file}"
    )
    environment = {**environment, "SOPS_AGE_KEY": others_keys.private}
    assert fetch_error(AgeFile(file, environment=environment)) == (
        f"the private key in SOPS_AGE_KEY cannot decrypt {file}"
    )
    file = sops_file("db_password: hunter22")
    source = SopsFile(file, others_keys.path, environment=environment)
    assert fetch_error(source) == f"SOPS found no key on this machine that decrypts {file}"


def test_a_file_that_is_not_encrypted_is_not_quoted(tmp_path, keys, environment) -> None:
    file = tmp_path / "secrets.yaml"
    file.write_text("db_password: hunter22\n")
    assert fetch_error(AgeFile(file, keys.path)) == f"{file} is not encrypted with age"
    source = SopsFile(file, keys.path, environment=environment)
    assert fetch_error(source) == f"{file} is not encrypted with SOPS"
    file.write_text("db_password: @hunter22\n")
    assert fetch_error(source) == f"{file} is not encrypted with SOPS"
    file.write_text("")
    assert fetch_error(AgeFile(file, keys.path)) == f"{file} is not encrypted with age"


def test_a_file_without_a_key_is_named(age_file, tmp_path) -> None:
    file = age_file(b"db_password: hunter22")
    for content in ("", "hunter22\n", "AGE-SECRET-KEY-1HUNTER22\n"):
        (tmp_path / "key.txt").write_text(content)
        assert fetch_error(AgeFile(file, tmp_path / "key.txt")) == (
            f"{tmp_path / 'key.txt'} contains no private key of age"
        )


@pytest.mark.parametrize("cut", [60, 150, -3])
def test_a_damaged_file_is_reported(age_file, keys, cut) -> None:
    file = age_file(b"db_password: hunter22")
    file.write_bytes(file.read_bytes()[:cut])
    assert fetch_error(AgeFile(file, keys.path)) == f"{file} is damaged"


@pytest.mark.parametrize(
    "field", ["db_password: ENC[AES256_GCM,data:", "mac: ENC[AES256_GCM,data:"]
)
def test_a_change_without_sops_is_noticed(sops_file, keys, environment, field) -> None:
    file = sops_file("db_password: hunter22\nother: x\n")
    file.write_text(file.read_text().replace(field, f"{field}AAAA"))
    source = SopsFile(file, keys.path, environment=environment)
    assert fetch_error(source) == f"{file} is damaged, or was changed without SOPS"


def test_a_number_in_a_sops_file_is_not_text(sops_file, keys, environment) -> None:
    file = sops_file("db_password: 0123\njwt_secret: x\n")
    source = SopsFile(file, keys.path, fields=("db_password",), environment=environment)
    assert fetch_error(source).endswith("cannot be used: db_password is not text")


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_that_age_has_encrypted_give_fields_or_a_sentence(
    tmp_path_factory, keys, plaintext
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.age"
    file.write_bytes(run("age", "--encrypt", "--recipient", keys.public, given=plaintext))
    try:
        shown = str(AgeFile(file, keys.path).fetch())
    except SecretsError as error:
        shown = error.message
    assert shown.startswith(("{", f"the content of {file} "))
