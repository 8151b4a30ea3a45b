"""The texts are OpenSSH's own, of the versions and systems beside them."""

from __future__ import annotations

import pytest

from ktrdr.deployment.ssh.diagnosis import connection_error, connection_lost_error
from ktrdr.errors import ConfigurationError, HostUnreachable

TEXTS = {
    # Linux, macOS, and a resolver that does not answer
    "ssh: Could not resolve hostname nas: Name or service not known": (
        "the name nas cannot be resolved"
    ),
    "ssh: Could not resolve hostname nas: nodename nor servname provided, or not known": (
        "the name nas cannot be resolved"
    ),
    "ssh: Could not resolve hostname nas: Temporary failure in name resolution": (
        "the name nas cannot be resolved"
    ),
    "ssh: connect to host nas port 22: Connection refused": "nas refused the connection",
    "ssh: connect to host nas port 22: Connection timed out": "nas did not answer in time",
    "ssh: connect to host nas port 22: Operation timed out": "nas did not answer in time",
    "Connection timed out during banner exchange\nConnection to 1.2.3.4 port 22 timed out": (
        "nas did not answer in time"
    ),
    "ssh: connect to host nas port 22: No route to host": "no network route to nas",
    "ssh: connect to host nas port 22: Network is unreachable": "no network route to nas",
    "ssh: connect to host nas port 22: Host is down": "no network route to nas",
    "No ED25519 host key is known for nas and you have requested strict checking.\n"
    "Host key verification failed.": "host key of nas is not known",
    "root@nas: Permission denied (publickey,password).": "nas refused this user's key",
    "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures": (
        "nas refused this user's key"
    ),
    "kex_exchange_identification: Connection closed by remote host": "before the login",
    "kex_exchange_identification: read: Connection reset by peer": "before the login",
    "Connection closed by 1.2.3.4 port 22": "before the login",
    "Unable to negotiate with 1.2.3.4 port 22: no matching host key type found.": (
        "no common algorithm"
    ),
    # A firewall on this machine, not the host's answer to a key
    "ssh: connect to host nas port 22: Permission denied": "ssh could not connect to nas",
    "": "ssh could not connect to nas: no error message",
    "something: quite new.": "ssh could not connect to nas: something: quite new",
}


@pytest.mark.parametrize(("text", "meaning"), TEXTS.items())
def test_messages_of_ssh_become_plain_words_with_a_remedy(text: str, meaning: str) -> None:
    error = connection_error("nas", text)
    assert isinstance(error, HostUnreachable)
    assert meaning in str(error)
    assert error.hint


@pytest.mark.parametrize(
    ("text", "is_off"),
    [
        ("ssh: Could not resolve hostname nas: Name or service not known", True),
        ("ssh: connect to host nas port 22: Connection refused", True),
        ("ssh: connect to host nas port 22: Operation timed out", True),
        ("ssh: connect to host nas port 22: No route to host", True),
        ("ssh: connect to host nas port 22: Host is down", True),
        ("Connection timed out during banner exchange", True),
        # Behind a jump host
        (
            (
                "channel 0: open failed: connect failed: No route to host\r\n"
                "stdio forwarding failed\r\nConnection closed by UNKNOWN port 65535"
            ),
            True,
        ),
        # These hosts are on.
        ("ssh: connect to host nas port 22: Permission denied", False),
        ("root@nas: Permission denied (publickey).", False),
        ("Connection closed by 1.2.3.4 port 22", False),
        ("Unable to negotiate with 1.2.3.4 port 22: no matching host key type found.", False),
        ("No ED25519 host key is known for nas and you have requested strict checking.", False),
        ("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nConnection refused", False),
        ("the login timed out", False),
        ("Timeout, server nas not responding.", False),
        ("something: quite new.", False),
    ],
)
def test_only_a_host_without_any_answer_is_off(text: str, is_off: bool) -> None:
    error = connection_error("nas", text)
    assert isinstance(error, HostUnreachable)
    assert error.is_off is is_off


CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Offending ECDSA key in /home/op/.ssh/known_hosts:7
  remove with:
  ssh-keygen -f "/home/op/.ssh/known_hosts" -R "[nas]:2222"
Host key for [nas]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""


def test_a_changed_host_key_names_the_file_and_the_command_that_removes_it() -> None:
    error = connection_error("nas", CHANGED)
    assert "/home/op/.ssh/known_hosts, line 7" in str(error)
    assert error.hint is not None
    assert "ssh-keygen -R '[nas]:2222' -f /home/op/.ssh/known_hosts" in error.hint


def test_a_key_file_open_to_others_is_distinguished_from_a_key_that_is_refused() -> None:
    text = (
        "WARNING: UNPROTECTED PRIVATE KEY FILE!\n"
        "Permissions 0644 for '/home/op/.ssh/id_ed25519' are too open.\n"
        "op@nas: Permission denied (publickey)."
    )
    assert "other users can read" in str(connection_error("nas", text))


@pytest.mark.parametrize(
    "text",
    [
        "Can't open user config file /x/config: No such file or directory",
        "Bad owner or permissions on /x/config",
        (
            "/x/config: line 2: Bad configuration option: prot\n"
            "/x/config: terminating, 1 bad configuration options"
        ),
        "/x/config line 3: Unsupported option",
    ],
)
def test_an_error_in_the_configuration_is_not_blamed_on_the_host(text: str) -> None:
    error = connection_error("nas", text)
    assert isinstance(error, ConfigurationError)
    assert "/x/config" in str(error)


def test_a_lost_connection_says_why() -> None:
    timeout = "Timeout, server 1.2.3.4 not responding.\r\n"
    assert str(connection_lost_error("nas", timeout)).endswith("the host stopped answering")
    closed = "Connection to 1.2.3.4 closed by remote host.\r\n"
    assert str(connection_lost_error("nas", closed)).endswith("closed by remote host")
