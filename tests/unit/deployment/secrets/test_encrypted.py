"""How age and sops are called, and what is said when they refuse; integration has the real ones."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ktrdr.deployment.secrets.encrypted import AgeFile, SopsFile, default_key_file
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

KEY = "AGE-SECRET-KEY-1HUNTER22"


class StandIn:
    """Programs age and sops that print what they are told and note how they were called."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "bin"
        self.path.mkdir()
        self._note = directory / "called.json"

    def says(self, stdout: str = "", stderr: str = "", code: int = 0, body: str = "") -> str:
        script = f"""\
            #!{sys.executable}
            import json, os, sys
            with open({str(self._note)!r}, "w") as file:
                json.dump([sys.argv[1:], dict(os.environ), sys.stdin.read()], file)
            sys.stdout.write({stdout!r})
            sys.stderr.write({stderr!r})
            sys.stdout.flush()
            {body}
            sys.exit({code})
        """
        for name in ("age", "sops"):
            (self.path / name).write_text(textwrap.dedent(script))
            (self.path / name).chmod(0o755)
        return str(self.path)

    def call(self) -> tuple[list[str], dict[str, str], str]:
        arguments, environment, given = json.loads(self._note.read_text())
        return arguments, environment, given


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.yaml"
    path.write_text("encrypted")
    return path


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "key.txt"
    path.write_text(KEY)
    return path


def refusal(fetch: Callable[[], object]) -> str:
    with pytest.raises(SecretsError) as caught:
        fetch()
    assert caught.value.hint
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert "HUNTER22" not in "".join(shown)
    return str(caught.value)


def test_age_is_given_the_key_by_its_file(stand_in: StandIn, file: Path, identity: Path) -> None:
    program = stand_in.says("jwt_secret: s3cret")
    source = AgeFile(file, identity, environment={"SOPS_AGE_KEY": KEY, "PATH": program})
    assert source.fetch() == {"jwt_secret": Secret("s3cret")}
    arguments, environment, given = stand_in.call()
    assert arguments == ["--decrypt", "--identity", str(identity), str(file)]
    assert (environment.get("SOPS_AGE_KEY"), given) == (None, "")


def test_a_key_in_the_environment_reaches_age_on_its_standard_input(
    stand_in: StandIn, file: Path
) -> None:
    program = stand_in.says("jwt_secret: s3cret")
    AgeFile(file, environment={"SOPS_AGE_KEY": KEY, "PATH": program}).fetch()
    arguments, environment, given = stand_in.call()
    assert arguments == ["--decrypt", "--identity", "-", str(file)]
    assert KEY not in str(environment)
    assert given == KEY


def test_without_a_named_key_age_uses_the_one_that_sops_would(
    stand_in: StandIn, file: Path, identity: Path, tmp_path: Path
) -> None:
    program = stand_in.says("jwt_secret: s3cret")
    AgeFile(file, environment={"SOPS_AGE_KEY_FILE": str(identity), "PATH": program}).fetch()
    assert str(identity) in stand_in.call()[0]
    home = tmp_path / "config" / "sops" / "age"
    home.mkdir(parents=True)
    identity.rename(home / "keys.txt")
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": program}
    AgeFile(file, environment=environment).fetch()
    assert str(home / "keys.txt") in stand_in.call()[0]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has another place")
def test_the_default_place_of_the_key_is_that_of_sops() -> None:
    assert default_key_file({"HOME": "/home/ann"}) == Path("/home/ann/.config/sops/age/keys.txt")


def test_no_key_anywhere_names_the_places_for_one(file: Path, tmp_path: Path) -> None:
    source = AgeFile(file, environment={"XDG_CONFIG_HOME": str(tmp_path)})
    assert refusal(source.fetch) == f"no private key was found to decrypt {file}"


def test_sops_is_asked_for_json_and_told_the_key_by_its_variable(
    stand_in: StandIn, file: Path, identity: Path
) -> None:
    program = stand_in.says('{"jwt_secret": "s3cret"}')
    source = SopsFile(file, identity, environment={"AWS_PROFILE": "ops", "PATH": program})
    assert source.fetch() == {"jwt_secret": Secret("s3cret")}
    arguments, environment, given = stand_in.call()
    assert arguments == ["decrypt", "--output-type", "json", str(file)]
    assert environment["SOPS_AGE_KEY_FILE"] == str(identity)
    assert environment["AWS_PROFILE"] == "ops"
    assert given == ""


@pytest.mark.parametrize("kind", [AgeFile, SopsFile])
def test_a_file_that_is_not_there_is_named_before_any_program_is_called(
    kind: type[AgeFile | SopsFile], stand_in: StandIn, file: Path, identity: Path, tmp_path: Path
) -> None:
    none, program = tmp_path / "none", stand_in.says()
    assert refusal(kind(none, identity, environment={"PATH": program}).fetch) == (
        f"the secrets' file {none} does not exist"
    )
    assert refusal(kind(file, none, environment={"PATH": program}).fetch) == (
        f"the private key's file {none} does not exist"
    )
    assert refusal(kind(tmp_path, identity, environment={"PATH": program}).fetch) == (
        f"the secrets' file {tmp_path} cannot be read: Is a directory"
    )


@pytest.mark.parametrize("kind", [AgeFile, SopsFile])
def test_a_program_that_is_not_installed(
    kind: type[AgeFile | SopsFile], file: Path, identity: Path, tmp_path: Path
) -> None:
    source = kind(file, identity, environment={"PATH": str(tmp_path)})
    assert "is not installed on this machine" in refusal(source.fetch)


@pytest.mark.parametrize("kind", [AgeFile, SopsFile])
def test_a_program_that_does_not_answer_is_ended_and_what_it_printed_is_dropped(
    kind: type[AgeFile | SopsFile], stand_in: StandIn, file: Path, identity: Path
) -> None:
    program = stand_in.says("HUNTER22", body="import time; time.sleep(60)")
    source = kind(file, identity, timeout_s=0.5, environment={"PATH": program})
    assert "did not answer within 0.5 s" in refusal(source.fetch)


@pytest.mark.parametrize("kind", [AgeFile, SopsFile])
def test_words_that_are_not_known_are_not_passed_on(
    kind: type[AgeFile | SopsFile], stand_in: StandIn, file: Path, identity: Path
) -> None:
    program = stand_in.says(stderr="db_password: HUNTER22 is odd", code=3)
    text = refusal(kind(file, identity, environment={**os.environ, "PATH": program}).fetch)
    assert text.endswith(f"could not decrypt {file}")
