"""Contract of every transport: the real one, and the one that records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from ktrdr.deployment.ssh.interface import Transport
from ktrdr.deployment.ssh.session import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import HostUnreachable, Interrupted
from ktrdr.secret import Scrubber, Secret
from tests.integration.remote import END
from tests.integration.sshd import Sshd, free_port
from tests.recording_transport import Answer, RecordingTransport


class Subject(Protocol):
    """Factory of transports with a prepared answer to the next script."""

    def __call__(self, answer: Answer, *, scrubber: Scrubber | None = None) -> Transport: ...


@pytest.fixture(params=["ssh", "recording"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    made: list[Transport] = []

    def make(answer: Answer, *, scrubber: Scrubber | None = None) -> Transport:
        transport: Transport
        if request.param == "ssh":
            # An answer with an error stands for a host that does not exist.
            server: Sshd = request.getfixturevalue("sshd")
            changes = {"Port": str(free_port())} if answer.error else {}
            config = server.client_config("contract", **changes)
            transport = SshTransport(SshProgram(config=config), scrubber=scrubber)
        else:
            transport = RecordingTransport(scrubber=scrubber)
            transport.answer(answer)
        made.append(transport)
        return transport

    yield make
    for transport in made:
        transport.close()


def test_a_complete_script_returns_its_two_outputs_separately(subject: Subject) -> None:
    transport = subject(Answer(stdout="a\n\nb\n", stderr="c\n"))
    script = Secret("printf 'a\\n\\nb\\n'; echo c >&2\n" + END)
    result = transport.run("node", script, timeout_s=20)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a\n\nb\n", "c\n")


def test_a_failed_script_returns_its_own_exit_code(subject: Subject) -> None:
    transport = subject(Answer(exit_code=3, stdout="a\n"))
    result = transport.run("node", Secret("echo a; exit 3"), timeout_s=20)
    assert (result.exit_code, result.stdout) == (3, "a\n")


def test_output_without_a_line_end_is_kept_apart_from_the_last_line(subject: Subject) -> None:
    transport = subject(Answer(stdout="half"))
    assert transport.run("node", Secret("printf half\n" + END), timeout_s=20).stdout == "half"


def test_lines_are_passed_on_in_order_and_without_the_last_one(subject: Subject) -> None:
    seen: list[tuple[str, str]] = []
    transport = subject(Answer(stdout="a\nb\n", stderr="c\n"))
    transport.run(
        "node",
        Secret("echo a; echo b; echo c >&2\n" + END),
        timeout_s=20,
        on_line=lambda stream, line: seen.append((stream, line)),
    )
    assert [line for stream, line in seen if stream == "stdout"] == ["a", "b"]
    assert [line for stream, line in seen if stream == "stderr"] == ["c"]


def test_secrets_are_replaced_in_results_and_lines(subject: Subject) -> None:
    seen: list[str] = []
    transport = subject(
        Answer(exit_code=1, stdout="is hunter22\n", stderr="aHVudGVyMjI=\n"),
        scrubber=Scrubber([Secret("hunter22")]),
    )
    script = Secret("echo is hunter22; printf hunter22 | base64 >&2; exit 1")
    result = transport.run("node", script, timeout_s=20, on_line=lambda _, line: seen.append(line))
    assert (result.stdout, result.stderr) == ("is •••\n", "•••\n")
    assert sorted(seen) == ["is •••", "•••"]


def test_a_script_that_ends_well_before_its_last_line_counts_as_lost(subject: Subject) -> None:
    transport = subject(Answer(complete=False))
    with pytest.raises(HostUnreachable, match="is incomplete"):
        transport.run("node", Secret("exit 0\n" + END), timeout_s=20)


def test_a_script_that_takes_too_long_is_ended(subject: Subject) -> None:
    transport = subject(Answer(duration_s=30))
    with pytest.raises(HostUnreachable, match=r"timed out after 0\.3 s"):
        transport.run("node", Secret("sleep 30\n" + END), timeout_s=0.3)


def test_a_host_that_cannot_be_reached_is_an_error_of_its_own(subject: Subject) -> None:
    transport = subject(Answer(error=HostUnreachable("node refused the connection")))
    with pytest.raises(HostUnreachable, match="node refused the connection"):
        transport.run("node", Secret(END), timeout_s=20)


def test_connections_and_scripts_are_counted(subject: Subject) -> None:
    transport = subject(Answer())
    for host in ("node", "node", "other"):
        transport.run(host, Secret(END), timeout_s=20)
    assert isinstance(transport, SshTransport | RecordingTransport)
    assert (transport.connections, transport.scripts) == (2, 3)


def test_a_closed_transport_runs_nothing(subject: Subject) -> None:
    transport = subject(Answer())
    transport.close()
    with pytest.raises(Interrupted):
        transport.run("node", Secret(END), timeout_s=20)
