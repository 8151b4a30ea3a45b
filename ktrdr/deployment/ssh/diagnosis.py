"""Says in plain words why ssh could not do what it was asked to."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ktrdr.errors import ConfigurationError, HostUnreachable, KtrdrError


class _Fault(NamedTuple):
    """One kind of failure: how ssh words it, how we do, and what to do about it."""

    pattern: str
    message: str
    hint: str


# The texts of OpenSSH 7 to 10 and of the C libraries of Linux and macOS. The first that fits is
# taken, so that a cause stands above its consequences.
_CONFIGURATION_FAULTS: Final = (
    _Fault(
        r"Can't open user config file (?P<file>.+?):",
        "ssh cannot read its configuration file {file}",
        "Correct the path given by KTRDR_SSH_CONFIG.",
    ),
    _Fault(
        r"Bad owner or permissions on (?P<file>\S+)",
        "ssh refuses its configuration file {file}, because others may write to it",
        "Run `chmod 600 {file}`.",
    ),
    _Fault(
        r"(?P<file>\S+): terminating, \d+ bad configuration options|"
        r"(?P<place>\S+ line \d+): (?:Bad|Unsupported|missing|no argument|keyword)",
        "ssh does not understand its configuration ({file}{place})",
        "Correct the line that `ssh -G {host}` complains about.",
    ),
)
_CONNECTION_FAULTS: Final = (
    _Fault(
        r"Could not resolve hostname (?P<name>\S+):",
        "the name {name} is unknown",
        "Check the name in the inventory, and that this machine uses the DNS server that has it.",
    ),
    _Fault(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed{known_hosts}",
        "If the host was set up anew, remove the old key with `ssh-keygen -R {key_name}`, "
        "connect once with `ssh {host}` and compare fingerprints; if not, somebody is in between.",
    ),
    _Fault(
        r"Host key verification failed|host key is known for|"
        r"authenticity of host .* can't be established",
        "the host key of {host} is not known to this machine",
        "Connect once with `ssh {host}` and compare the fingerprint it shows with the host's own.",
    ),
    _Fault(
        r"UNPROTECTED PRIVATE KEY FILE|Permissions \d+ for '(?P<file>[^']+)' are too open",
        "ssh does not use the private key, because others can read its file",
        "Run `chmod 600` on the key file that `ssh {host}` names.",
    ),
    _Fault(
        r"Permission denied \(|Too many authentication failures|No supported authentication",
        "{host} refused this user's key",
        "Load the right key (`ssh-add -l` lists those loaded), or put it into the "
        "authorized_keys of the user on {host}; `ssh -v {host}` tells which were tried.",
    ),
    _Fault(
        r"Connection refused",
        "{host} refused the connection",
        "Check that sshd runs on {host} and that the port in the ssh configuration is right.",
    ),
    _Fault(
        r"timed out|Timeout, server .* not responding",
        "{host} did not answer in time",
        "Check that {host} is switched on and that no firewall drops packets on the way.",
    ),
    _Fault(
        r"No route to host|[Nn]etwork is (?:unreachable|down)|Host is down",
        "there is no way through the network to {host}",
        "Check this machine's network or VPN, and that {host} is switched on.",
    ),
    _Fault(
        r"Unable to negotiate|no matching .* found",
        "{host} and this machine's ssh have no common algorithm",
        "Bring OpenSSH up to date on the older of the two.",
    ),
    _Fault(
        r"Connection (?:closed|reset)|kex_exchange_identification|banner exchange",
        "{host} closed the connection before the login",
        "Look into the log of sshd on {host}; it may be overloaded, or bar this machine.",
    ),
)


def connection_fault(host: str, log: str) -> KtrdrError:
    """Why no connection came about.

    Args:
        host: The name ssh was called with.
        log: What ssh wrote about itself.
    """
    for faults, kind in (
        (_CONFIGURATION_FAULTS, ConfigurationError),
        (_CONNECTION_FAULTS, HostUnreachable),
    ):
        for fault in faults:
            if found := re.search(fault.pattern, log):
                words = _words(host, log) | {k: v or "" for k, v in found.groupdict().items()}
                return kind(fault.message.format(**words), hint=fault.hint.format(**words))
    return HostUnreachable(
        f"ssh could not connect to {host}: {_last_line(log)}",
        hint=f"Try `ssh -v {host} true`, which shows where it stops.",
    )


def connection_lost(host: str, log: str) -> HostUnreachable:
    """Why a connection that stood ended in mid-script."""
    reason = "the host stopped answering" if "not responding" in log else _last_line(log)
    return HostUnreachable(
        f"the connection to {host} was lost in mid-script: {reason}",
        hint="What the script had begun was ended on the host; run the command again.",
    )


def too_slow(host: str, timeout_s: float) -> HostUnreachable:
    """A script that was ended because its time was up."""
    return HostUnreachable(
        f"the script on {host} was ended because it took longer than {timeout_s:g} s",
        hint=f"Look on {host} for what it waits for, or allow it more time.",
    )


def killed(host: str) -> HostUnreachable:
    """A script whose shell was killed on the host, while the connection stood."""
    return HostUnreachable(
        f"the script on {host} was killed there before it was done",
        hint=f"Look into the kernel log of {host} (`dmesg`): it may be out of memory.",
    )


def cut_short(host: str) -> HostUnreachable:
    """A script that ended well without having come to its last line."""
    return HostUnreachable(
        f"the connection to {host} was lost: the script ended without its last line",
        hint="Run the command again.",
    )


def no_shell(host: str, output: str) -> HostUnreachable:
    """A login that succeeded and gave no shell to run anything with."""
    return HostUnreachable(
        f"{host} let this user in but does not run commands for it: {_last_line(output)}",
        hint=f"Give the user on {host} a login shell.",
    )


def ssh_missing(executable: str) -> HostUnreachable:
    """There is no ssh on this machine."""
    return HostUnreachable(
        f"no host can be reached, because this machine has no program {executable}",
        hint="Install the OpenSSH client.",
    )


def _words(host: str, log: str) -> dict[str, str]:
    offending = re.search(r"Offending \S+ key in (\S+?):(\d+)", log)
    known_hosts = f" (known from {offending[1]}, line {offending[2]})" if offending else ""
    suggested = re.search(r"ssh-keygen -f ['\"]?([^'\"]+)['\"]? -R ['\"]?([^'\"\s]+)", log)
    key_name = f"'{suggested[2]}' -f {suggested[1]}" if suggested else host
    return {
        "host": host, "name": host, "file": "", "place": "",
        "known_hosts": known_hosts, "key_name": key_name,
    }  # fmt: skip


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"
