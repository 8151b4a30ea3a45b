"""The faults, prepared before a deploy or injected during one of its steps."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import nodes, vault
from tests.chaos.deploy import images
from tests.chaos.deploy.command import wait_until
from tests.chaos.deploy.context import CaseContext
from tests.chaos.deploy.hosts import Host

_ALL = ("read secrets", "lock", "check", "fetch", "apply", "verify", "record")
_REMOTE = ("lock", "check", "fetch", "apply", "verify", "record")
# Not libfaketime: with an unchanged monotonic clock, Python cannot sleep under version 0.9.10.
_CLOCK = Path(__file__).with_name("clock")
_DATE = """#!/bin/sh
# A clock that differs from the machine's; only scripts that run this program see it.
if [ "$*" = +%s ]; then
echo $(($(/bin/date +%s) + $(cat /run/ktrdr-chaos-clock)))
else
exec /bin/date "$@"
fi
"""


@dataclass(frozen=True)
class Fault:
    """Kind of fault.

    Attributes:
        steps: Steps in which the fault can occur.
        inject: Function that injects the fault while the deploy runs; may take some time. False
            means that there was nothing to break.
        prepare: Function that prepares or injects the fault before the deploy.
        cuts_off: True if the host may not learn how the deploy ended.
        kills: True if the command has no time to clean up on its own machine.
        workers_only: True for faults of worker nodes only.
        one_host: True for faults in deploys to one host only.
        real_workers: True if light workers would not notice the fault.
        may_stay_stopped: True if services that the deploy was replacing may stay stopped until the
            next deploy.
    """

    steps: tuple[str, ...]
    inject: Callable[[CaseContext], bool | None] | None = None
    prepare: Callable[[CaseContext], None] | None = None
    cuts_off: bool = False
    kills: bool = False
    workers_only: bool = False
    one_host: bool = False
    real_workers: bool = False
    may_stay_stopped: bool = False


# ------------------------------------------------------------------------ the operator's machine


def _signal(context: CaseContext, by: signal.Signals) -> None:
    context.command.signal(by)


def _cut_connection(context: CaseContext) -> bool:
    """Cut the connection: kill its ssh process."""
    name = context.victim.node.names[0]
    wait_until(lambda: context.command.ssh_processes(to=name), 2, 0.01)
    clients = context.command.ssh_processes(to=name)
    for pid in clients:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(clients)


def _silence_connection(context: CaseContext) -> None:
    """Drop all packets of the connection, without an error."""
    rule = "-p tcp --dport 22 -j DROP"
    context.victim.run(f"iptables -I INPUT {rule}")
    context.undo.callback(context.victim.run, f"iptables -D INPUT {rule}", check=False)
    # Longer than the host's timeout, so that its reaction is tested.
    context.command.wait()
    time.sleep(context.dice.uniform(35, 45))


def _change_laptop_clock(context: CaseContext) -> None:
    offset = context.dice.choice((-7200, -90, 90, 7200))
    (context.directory / "clock").write_text(f"{offset}")


def _fake_clock(context: CaseContext) -> None:
    """Let the command use a wall clock that can be set; the monotonic clock stays unchanged."""
    file = context.directory / "clock"
    file.write_text("0")
    context.env |= {"PYTHONPATH": str(_CLOCK), "KTRDR_CHAOS_CLOCK": str(file)}


def _start_second_deploy(context: CaseContext) -> None:
    """Start a deploy of the other version to the same host."""
    waits = context.dice.random() < 0.5
    more = ("--lock-wait", "200") if waits else ()
    pair = images.LIGHT if context.tag in images.LIGHT else images.GOOD
    other = images.other_tag(context.tag, pair)
    context.others.append(context.start(other, "other", *more))


# ------------------------------------------------------------------------------------- the host


def _kill_shell(context: CaseContext) -> bool:
    """Kill the shell that holds the lock, or a shell that it has started."""
    wait_until(context.victim.shells, 2, 0.01)
    shells = context.victim.shells()
    if not shells:
        return False
    shell = context.dice.choice(shells)
    inner = [child for child in context.victim.children(shell.pid) if child.begins_with("sh", "-s")]
    return context.victim.kill(context.dice.choice([shell, *inner]))


def _stop_docker(context: CaseContext, *, by: signal.Signals) -> None:
    host = context.victim
    context.undo.callback(start_docker, host)
    if by is signal.SIGTERM:
        nodes.stop_docker(host.node)
        time.sleep(context.dice.uniform(2, 8))
    else:
        # systemd starts it again.
        for process in host.processes():
            if process.begins_with("dockerd"):
                host.kill(process, by)
    start_docker(host)


def start_docker(host: Host) -> None:
    """Start the host's engine, and wait for it."""
    nodes.start_docker(host.node)
    wait_until(host.docker_answers, 90, 1)


def _mount_work_directory(context: CaseContext) -> None:
    context.undo.enter_context(context.victim.work_directory_in_memory())


def _fill_work_directory(context: CaseContext) -> None:
    context.victim.fill_disk()
    context.undo.callback(context.victim.free_disk)
    context.command.wait()


def _use_new_image(context: CaseContext) -> None:
    """Deploy an image that no host has; otherwise the registry is not queried."""
    context.tag = context.good_tag = f"chaos-fresh-{secrets.token_hex(4)}"
    images.push_fresh(context.tag)


def _fill_download_directory(context: CaseContext) -> None:
    """Leave Docker no space for downloads."""
    directory = "/var/lib/docker/tmp"
    _use_new_image(context)
    context.victim.run(f"mkdir -p {directory} && mount -t tmpfs -o size=64k tmpfs {directory}")
    context.undo.callback(context.victim.run, f"umount -l {directory}", check=False)


def _change_host_clock(context: CaseContext) -> None:
    host, offset = context.victim, context.dice.choice((-7200, -90, 90, 7200))
    host.write("/run/ktrdr-chaos-clock", f"{offset}\n")
    host.write("/usr/local/bin/date", _DATE)
    host.run("chmod 755 /usr/local/bin/date")
    context.undo.callback(host.run, "rm -f /usr/local/bin/date", check=False)


def _cut_power(context: CaseContext) -> None:
    _start_again_after(partial(nodes.kill, context.victim.node), context)


def _reboot(context: CaseContext) -> None:
    _start_again_after(partial(nodes.stop, context.victim.node), context)


def _start_again_after(end: Callable[[], None], context: CaseContext) -> None:
    """End the host, and start it again, which the deploy may notice before or after the boot."""
    context.undo.callback(context.victim.boot)
    end()
    time.sleep(context.dice.choice((0, 5, 20)))
    context.victim.boot()


def _unmount_share(context: CaseContext) -> None:
    with context.victim.without_share():
        time.sleep(context.dice.uniform(2, 20))


# -------------------------------------------------------------------------------- the registry


def _refuse_login(context: CaseContext) -> None:
    """Use a token that the registry refuses."""
    path = context.directory / "vault.json"
    vault.write_file(path, {**context.fields, "ghcr_token": f"ghp_{secrets.token_hex(18)}"})
    context.env["KTRDR_LAB_VAULT"] = str(path)


def _use_missing_image(context: CaseContext) -> None:
    context.tag = "chaos-absent"


def _break_registry(context: CaseContext) -> None:
    _use_new_image(context)
    _redirect_registry(context, behaviour="500")


def _redirect_registry(context: CaseContext, *, behaviour: str) -> None:
    context.registry.redirect(context.victim, behaviour)
    context.undo.callback(context.registry.restore, context.victim)


def _stall_registry(context: CaseContext) -> None:
    """Let the registry answer nothing, until the operator interrupts the deploy."""
    _use_new_image(context)
    _redirect_registry(context, behaviour="stall")


def _interrupt_later(context: CaseContext) -> None:
    time.sleep(context.dice.uniform(3, 8))
    context.command.signal(signal.SIGINT)


def _use_broken_image(context: CaseContext, *, tag: str) -> None:
    context.tag = tag
    context.extra = ("--health-timeout", "20") if tag == "chaos-unhealthy" else ()


def _use_broken_image_without_registry(context: CaseContext) -> None:
    """Deploy a broken image; the registry will not have the old one any more."""
    _use_broken_image(context, tag="chaos-crashes")


FAULTS: dict[str, Fault] = {
    "SIGINT": Fault(_ALL, partial(_signal, by=signal.SIGINT)),
    "SIGTERM": Fault(_ALL, partial(_signal, by=signal.SIGTERM)),
    "SIGKILL": Fault(_ALL, partial(_signal, by=signal.SIGKILL), cuts_off=True, kills=True),
    "connection cut": Fault(_REMOTE, _cut_connection, cuts_off=True),
    "connection silent": Fault(("fetch", "apply", "verify"), _silence_connection, cuts_off=True),
    "remote shell killed": Fault(_REMOTE, _kill_shell, cuts_off=True),
    "Docker stopped": Fault(_REMOTE, partial(_stop_docker, by=signal.SIGTERM)),
    # Engines up to 20.10 treat containers that outlived them as stopped by hand, and do not start
    # them. So this fault only makes sense while a deploy is about to start them.
    "Docker killed": Fault(
        ("apply", "verify"), partial(_stop_docker, by=signal.SIGKILL), workers_only=True
    ),
    "work directory full": Fault(
        _REMOTE, _fill_work_directory, _mount_work_directory, cuts_off=True, workers_only=True
    ),
    "no space for downloads": Fault(
        ("fetch",), prepare=_fill_download_directory, workers_only=True
    ),
    "registry refuses (401)": Fault(("fetch",), prepare=_refuse_login, one_host=True),
    "image absent (404)": Fault(("fetch",), prepare=_use_missing_image, one_host=True),
    "registry fails (500)": Fault(("fetch",), prepare=_break_registry, one_host=True),
    "registry stalls": Fault(("fetch",), _interrupt_later, _stall_registry, one_host=True),
    "image crashes at start": Fault(
        ("verify",), prepare=partial(_use_broken_image, tag="chaos-crashes"), one_host=True
    ),
    "image exits after 10 s": Fault(
        ("verify",), prepare=partial(_use_broken_image, tag="chaos-exits"), one_host=True
    ),
    "image never healthy": Fault(
        ("verify",), prepare=partial(_use_broken_image, tag="chaos-unhealthy"), one_host=True
    ),
    "image crashes, registry down": Fault(
        ("verify",),
        partial(_redirect_registry, behaviour="500"),
        _use_broken_image_without_registry,
        one_host=True,
    ),
    "second deploy": Fault(_ALL, _start_second_deploy, one_host=True),
    "laptop's clock jumps": Fault(_ALL, _change_laptop_clock, _fake_clock),
    "host's clock jumps": Fault(_REMOTE, _change_host_clock),
    # Compose's stop cancels the restart policy, and nothing else starts services at a boot. Without
    # the core, workers are unhealthy too, so only one host is deployed.
    "host reboots": Fault(_REMOTE, _reboot, cuts_off=True, one_host=True),
    "power cut of the host": Fault(_REMOTE, _cut_power, cuts_off=True, one_host=True),
    "share unmounted for seconds": Fault(
        ("lock", "check", "fetch", "apply", "verify"),
        _unmount_share,
        workers_only=True,
        real_workers=True,
    ),
}
