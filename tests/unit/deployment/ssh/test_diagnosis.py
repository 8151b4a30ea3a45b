"""The texts are OpenSSH's own, of the versions and systems beside them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.ssh.diagnosis import (
    connection_error,
    connection_lost_error,
    find_loss,
    foreign_shell_error,
    login_timeout_error,
)
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
        "ssh could not connect to nas: Unable to negotiate with 1.2.3.4 port 22: no matching host"
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


LOSSES = [
    "Timeout, server 1.2.3.4 not responding.",
    "Connection to nas closed by remote host.",
    "Read from remote host nas: Connection reset by peer",
    "Connection closed by 1.2.3.4 port 22",
    "Connection reset by 1.2.3.4 port 22",
    "Connection to 1.2.3.4 port 22 timed out",
    "Disconnected from 1.2.3.4 port 22",
    "Received disconnect from 1.2.3.4 port 22:11: bye",
    "client_loop: send disconnect: Broken pipe",
    "packet_write_wait: Connection to 1.2.3.4 port 22: Broken pipe",
    "ssh_dispatch_run_fatal: Connection to 1.2.3.4 port 22: message authentication code incorrect",
    "Corrupted MAC on input.",
    "Bad packet length 1349676916.",
    "Write failed: Broken pipe",
    "Killed by signal 15.",
]
NO_LOSSES = [
    "Warning: Permanently added 'nas' (ED25519) to the list of known hosts.",
    "** WARNING: connection is not using a post-quantum key exchange algorithm.",
    "The server has updated its host keys.",
    "Learned new hostkey: ED25519 SHA256:0123",
    "hostfile_replace_entries failed for /home/op/.ssh/known_hosts: Permission denied",
    "channel 3: open failed: connect failed: Connection refused",
    "X11 forwarding request failed on channel 0",
    "debug1: client_input_channel_req: channel 0 rtype exit-signal reply 0",
    "debug1: channel 0: free: client-session, nchannels 1",
    'Authenticated to nas ([1.2.3.4]:22) using "publickey".',
    "Transferred: sent 12345, received 67890 bytes, in 1.0 seconds",
]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_words_of_a_lost_connection_are_found_among_others(loss: str) -> None:
    log = "\r\n".join([*NO_LOSSES, loss, *NO_LOSSES])
    assert find_loss(log) == loss


def test_other_words_of_ssh_are_no_lost_connection() -> None:
    assert find_loss("\n".join(NO_LOSSES)) == ""


@pytest.mark.parametrize("text", TEXTS)
def test_what_ssh_only_informs_about_does_not_change_the_reason(text: str) -> None:
    informed = "\n".join(["debug1: Connecting to nas: Connection refused", *NO_LOSSES[:2], text])
    assert connection_error("nas", informed).message == connection_error("nas", text).message


def test_a_host_that_the_configuration_refuses_is_reported_with_its_reason() -> None:
    text = "debug1: x\n/home/op/.ssh/config line 7: RefuseConnection: this one is switched off"
    error = connection_error("nas", text)
    assert error.message == (
        "ssh could not connect to nas: "
        "/home/op/.ssh/config line 7: RefuseConnection: this one is switched off"
    )


@pytest.mark.parametrize("state", ["booting up", "going down"])
def test_a_host_that_is_starting_or_shutting_down_is_recognised(state: str) -> None:
    text = (
        f'"System is {state}. Unprivileged users are not permitted to log in yet. Please come '
        'back later. For technical details, see pam_nologin(8)."\nConnection closed by 1.2.3.4'
    )
    assert connection_error("nas", text).message == (
        "nas accepts no logins, because it is starting or shutting down"
    )


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ('ED25519-SK "/home/op/.ssh/id_sk"', "device not found"),
        ('RSA "cardno:1 2" from agent', "agent refused operation"),
    ],
)
def test_a_key_that_does_not_sign_is_no_key_that_the_host_refuses(key: str, reason: str) -> None:
    text = (
        f"sign_and_send_pubkey: signing failed for {key}: {reason}\n"
        "root@nas: Permission denied (publickey)."
    )
    assert connection_error("nas", text).message == (
        f"this user's key for nas could not be used: {reason}"
    )


@given(st.text())
def test_whatever_a_login_says_the_message_is_one_bounded_line(said: str) -> None:
    for log in ("", "Authenticated to nas", "debug1: Remote protocol version 2.0"):
        message = login_timeout_error("nas", said, log).message
        assert message.isprintable()
        assert len(message) < 500


@pytest.mark.parametrize("shell", ["sh", "ash", "bash", "dash", "busybox", "ksh93", "sshd-session"])
def test_a_posix_shell_is_not_foreign(shell: str) -> None:
    assert foreign_shell_error("nas", f"hello\nktrdr-shell {shell} root\n") is None


def test_a_lost_connection_says_why() -> None:
    timeout = "Timeout, server 1.2.3.4 not responding.\r\n"
    assert str(connection_lost_error("nas", timeout)).endswith("the host stopped answering")
    closed = "Connection to 1.2.3.4 closed by remote host.\r\n"
    assert str(connection_lost_error("nas", closed)).endswith("closed by remote host")
