"""Errors for the failures of ssh, with their reasons and remedies."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from ktrdr.errors import ConfigurationError, ErrorPattern, HostUnreachable, KtrdrError, last_line

# Messages of OpenSSH 7 to 10 and of the C libraries of Linux and macOS. The first match counts, so
# a cause stands before its consequences.
_CONFIGURATION_ERRORS: Final = (
    ErrorPattern(
        r"Can't open user config file (?P<file>.+?):",
        "ssh cannot read its configuration file {file}",
        "Correct the path given by KTRDR_SSH_CONFIG.",
    ),
    ErrorPattern(
        r"Bad owner or permissions on (?P<file>\S+)",
        "ssh refuses its configuration file {file}, because other users may write to it",
        "Run `chmod 600 {file}`.",
    ),
    ErrorPattern(
        r"(?P<file>\S+): terminating, \d+ bad configuration options|"
        r"(?P<location>\S+ line \d+): (?:Bad|Unsupported|missing|no argument|keyword)",
        "ssh does not understand its configuration ({file}{location})",
        "Correct the line that `ssh -G {host}` complains about.",
    ),
)
_CONNECTION_ERRORS: Final = (
    ErrorPattern(
        r"Could not resolve hostname (?P<name>\S+):",
        "the name {name} cannot be resolved",
        "Correct the host in the inventory, or use the DNS server that knows this name.",
    ),
    ErrorPattern(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed{known_hosts}",
        "If the host was reinstalled, remove the old key with `ssh-keygen -R {key_name}`, connect "
        "once with `ssh {host}` and compare the fingerprints. Otherwise another machine may be "
        "intercepting the connection.",
    ),
    ErrorPattern(
        r"Host key verification failed|host key is known for|"
        r"authenticity of host .* can't be established",
        "the host key of {host} is not known to this machine",
        "Connect once with `ssh {host}` and compare the fingerprint it shows with the host's own.",
    ),
    ErrorPattern(
        r"UNPROTECTED PRIVATE KEY FILE|Permissions \d+ for '(?P<file>[^']+)' are too open",
        "ssh refuses the private key, because other users can read its file",
        "Run `chmod 600` on the key file that `ssh {host}` names.",
    ),
    ErrorPattern(
        r"sign_and_send_pubkey: signing failed.*?: (?P<reason>[^:\n]+)$",
        "this user's key for {host} could not be used: {reason}",
        "Unlock or touch what holds the key, and run the command again; `ssh {host}` asks for it.",
    ),
    ErrorPattern(
        r"System is (?:booting up|going down)|not permitted to log in yet",
        "{host} accepts no logins, because it is starting or shutting down",
        "Run the command again when it has started.",
    ),
    ErrorPattern(
        r"Permission denied \(|Too many authentication failures|No supported authentication",
        "{host} refused this user's key",
        "Load the right key (`ssh-add -l` lists the loaded ones), or add it to the authorized_keys "
        "of the user on {host}. `ssh -v {host}` shows which keys were tried.",
    ),
    ErrorPattern(
        r"Connection refused",
        "{host} refused the connection",
        "Check that sshd runs on {host} and that the port in the ssh configuration is right.",
    ),
    ErrorPattern(
        r"timed out|Timeout, server .* not responding",
        "{host} did not answer in time",
        "Check that {host} is switched on and that no firewall drops packets on the way.",
    ),
    ErrorPattern(
        r"No route to host|[Nn]etwork is (?:unreachable|down)|Host is down",
        "there is no network route to {host}",
        "Check this machine's network or VPN, and that {host} is switched on.",
    ),
    ErrorPattern(
        r"Connection (?:closed|reset)|kex_exchange_identification|banner exchange",
        "{host} closed the connection before the login",
        "Read the log of sshd on {host}: it may be overloaded, or block this machine.",
    ),
)
# Nothing answered, here or behind a jump host. A host whose login hangs is not off. A firewall of
# this machine denies permission.
_NO_ANSWER: Final = re.compile(
    r"Could not resolve hostname|timed out during banner exchange|"
    r"(?:connect to host \S+ port \d+|open failed: connect failed): (?!Permission denied)"
)
# What ssh logs once the host has accepted the login.
LOGGED_IN: Final = "Authenticated to "
# What ssh logs to inform, and not for a reason. A proxy that ends has given the reason before.
_INFORMATION: Final = re.compile(
    r"^(?:debug\d: |Authenticated to |Transferred: |Bytes per second: |\*\* |Warning: Perm|"
    r"(?:kex_exchange_identification: .*\s+)?Connection \w+ by UNKNOWN).*\n?",
    re.M,
)
# What ssh logs when it loses a connection. It also logs much else after the login, such as new host
# keys and refused forwardings.
_LOSS: Final = re.compile(
    r"not responding|by remote host|from remote host|[Dd]isconnect|Connection (?:to|closed|reset)|"
    r"Broken pipe|Corrupted MAC|[Bb]ad packet|Write failed|Killed by signal"
)
_FOREIGN_SHELL: Final = re.compile(r"ktrdr-shell (\S{1,40}) (\S{0,40})$", re.M)
_POSIX_SHELL: Final = re.compile(r"sh|ash|bash|dash|busybox|.?ksh(?:93)?|mksh|yash|sshd.*")
_MAX_WORDS: Final = 400


def connection_error(host: str, log: str) -> KtrdrError:
    """Return the error for a connection that could not be opened.

    Args:
        host: Name that ssh was called with.
        log: Messages of ssh.
    """
    log = _INFORMATION.sub("", log)
    for patterns, kind in (
        (_CONFIGURATION_ERRORS, ConfigurationError),
        (_CONNECTION_ERRORS, HostUnreachable),
    ):
        for pattern, message, hint in patterns:
            if match := re.search(pattern, log, re.MULTILINE):
                named = {name: text for name, text in match.groupdict().items() if text}
                values = defaultdict(str, _values(host, log) | named)
                error = kind(message.format_map(values), hint=hint.format_map(values))
                if isinstance(error, HostUnreachable):
                    error.is_off = bool(_NO_ANSWER.search(log))
                return error
    return HostUnreachable(
        f"ssh could not connect to {host}: {last_line(log)}",
        hint=f"Run `ssh -v {host} true` to see where it stops.",
    )


def login_timeout_error(host: str, said: str, log: str) -> KtrdrError:
    """Return the error for an incomplete login, from what the host said and what ssh logged."""
    words = "".join(each if each.isprintable() else " " for each in said)
    said = f"; it said: {' '.join(words.split())[-_MAX_WORDS:]}" if words.strip() else ""
    if LOGGED_IN in log:
        return HostUnreachable(
            f"{host} accepted the login, but no shell answered{said}",
            hint=f"Find out with `ssh {host} true` what its login waits for, such as a command in "
            "~/.bashrc, and run the command again.",
        )
    if said or "Remote protocol version" in log:
        return HostUnreachable(
            f"the login on {host} waits for something{said or ', such as the touch of a key'}",
            hint=f"Do what it asks (`ssh {host}` shows all of it), and run the command again.",
        )
    return connection_error(host, "the login timed out")


def foreign_shell_error(host: str, output: str) -> HostUnreachable | None:
    """Return the error for a login that starts a shell unlike ``sh``, if the output names one."""
    match = _FOREIGN_SHELL.search(output)
    if match is None or _POSIX_SHELL.fullmatch(match[1]):
        return None
    shell, user = match.groups()
    return HostUnreachable(
        f"the login of {user or 'this user'} on {host} starts {shell}, which is not a POSIX shell",
        hint=f"On {host}, let only interactive shells start it: in ~/.bashrc, write "
        f"`[[ $- == *i* ]] && exec {shell}`.",
    )


def find_loss(log: str) -> str:
    """Return the messages of a lost connection, or an empty string if there are none."""
    lines = _INFORMATION.sub("", log).splitlines()
    return "\n".join(line.strip() for line in lines if _LOSS.search(line))


def connection_lost_error(host: str, log: str) -> HostUnreachable:
    """Return the error for a connection that was lost while a script ran."""
    reason = "the host stopped answering" if "not responding" in log else last_line(log)
    return HostUnreachable(
        f"the connection to {host} was lost while a script ran: {reason}",
        hint="The host has terminated the script. Run the command again.",
    )


def timeout_error(host: str, timeout_s: float) -> HostUnreachable:
    """Return the error for a script that took too long and was ended."""
    return HostUnreachable(
        f"the script on {host} timed out after {timeout_s:g} s and was terminated",
        hint=f"Find out on {host} what it waits for, and run the command again.",
    )


def killed_error(host: str) -> HostUnreachable:
    """Return the error for a script that was killed on its host while the connection was good."""
    return HostUnreachable(
        f"the script on {host} was killed there before it finished",
        hint=f"Read the kernel log of {host} (`dmesg`, for a container on its own host): it may be "
        "out of memory.",
    )


def no_shell_error(host: str, output: str) -> HostUnreachable:
    """Return the error for a login without a shell."""
    return HostUnreachable(
        f"{host} accepted the login but does not run commands for this user: {last_line(output)}",
        hint=f"Run `ssh -t {host}` and do what it asks; the user needs a login shell.",
    )


def ssh_missing_error(executable: str) -> HostUnreachable:
    """Return the error for a machine without ssh."""
    return HostUnreachable(
        f"no host can be reached, because {executable} is not installed on this machine",
        hint="Install the OpenSSH client.",
    )


def _values(host: str, log: str) -> dict[str, str]:
    offending = re.search(r"Offending \S+ key in (\S+?):(\d+)", log)
    known_hosts = f" (known from {offending[1]}, line {offending[2]})" if offending else ""
    suggested = re.search(r"ssh-keygen -f ['\"]?([^'\"]+)['\"]? -R ['\"]?([^'\"\s]+)", log)
    key_name = f"'{suggested[2]}' -f {suggested[1]}" if suggested else host
    return {"host": host, "known_hosts": known_hosts, "key_name": key_name}
