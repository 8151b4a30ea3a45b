"""The faults. Each is arranged before the deploy begins, or strikes while it is at a step."""

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

from lab import vault
from tests.chaos.deploy import images
from tests.chaos.deploy.command import wait_until
from tests.chaos.deploy.hosts import Host
from tests.chaos.deploy.scene import Scene

_ALL = ("read secrets", "lock", "check", "fetch", "apply", "verify", "record")
_REMOTE = ("lock", "check", "fetch", "apply", "verify", "record")
# Not libfaketime: with the monotonic clock left alone, no Python can sleep under its 0.9.10.
_CLOCK = Path(__file__).with_name("clock")
_DATE = """#!/bin/sh
# Another clock than the machine's: only scripts that ask this program see it.
if [ "$*" = +%s ]; then
echo $(($(/bin/date +%s) + $(cat /run/ktrdr-chaos-clock)))
else
exec /bin/date "$@"
fi
"""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        steps: Where in a deploy it may strike.
        strike: Injects it while the deploy runs; may take its time. False says that there was
            nothing to strike.
        arrange: Prepares it, or injects it, before the deploy begins.
        cuts_off: Whether the host may be left without word of how the deploy ended.
        kills: Whether the command has no time to tidy up on its own machine.
        workers_only: Whether it is for worker nodes alone.
        one_host: Whether it is for deploys to one host alone.
    """

    steps: tuple[str, ...]
    strike: Callable[[Scene], bool | None] | None = None
    arrange: Callable[[Scene], None] | None = None
    cuts_off: bool = False
    kills: bool = False
    workers_only: bool = False
    one_host: bool = False


# ------------------------------------------------------------------------ the operator's machine


def _signal(scene: Scene, by: signal.Signals) -> None:
    scene.running.signal(by)


def _cut(scene: Scene) -> bool:
    """The connection ends: its ssh process is killed."""
    name = scene.victim.node.names[0]
    wait_until(lambda: scene.running.ssh(to=name), 2, 0.01)
    clients = scene.running.ssh(to=name)
    for pid in clients:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(clients)


def _hush(scene: Scene) -> None:
    """The connection carries nothing any more, and nobody says so."""
    rule = "-p tcp --dport 22 -j DROP"
    scene.victim.run(f"iptables -I INPUT {rule}")
    scene.undo.callback(scene.victim.run, f"iptables -D INPUT {rule}", check=False)
    # Longer than the host's patience, so that what it does about it is seen.
    scene.running.wait()
    time.sleep(scene.dice.uniform(35, 45))


def _clock_of_laptop(scene: Scene) -> None:
    offset = scene.dice.choice((-7200, -90, 90, 7200))
    (scene.directory / "clock").write_text(f"{offset}")


def _fake_clock(scene: Scene) -> None:
    """The command sees a clock that can be set; the time that only goes on stays what it is."""
    file = scene.directory / "clock"
    file.write_text("0")
    scene.env |= {"PYTHONPATH": str(_CLOCK), "KTRDR_CHAOS_CLOCK": str(file)}


def _two_at_once(scene: Scene) -> None:
    """Somebody else deploys the other version to the same host."""
    waits = scene.dice.random() < 0.5
    more = ("--lock-wait", "200") if waits else ()
    pair = images.LIGHT if scene.tag in images.LIGHT else images.GOOD
    other = images.other_than(scene.tag, pair)
    scene.others.append(scene.start(other, "other", *more))


# ------------------------------------------------------------------------------------- the host


def _kill_shell(scene: Scene) -> bool:
    """The shell that has the lock is killed, or one that it has started: the step's, a guard."""
    wait_until(scene.victim.shells, 2, 0.01)
    shells = scene.victim.shells()
    if not shells:
        return False
    shell = scene.dice.choice(shells)
    inner = [child for child in scene.victim.children(shell.pid) if child.begins_with("sh", "-s")]
    return scene.victim.kill(scene.dice.choice([shell, *inner]))


def _stop_docker(scene: Scene, *, by: signal.Signals) -> None:
    host = scene.victim
    (host.root / "run/no-docker").touch()
    scene.undo.callback(start_docker, host)
    for process in host.processes():
        if process.begins_with("dockerd"):
            host.kill(process, by)
    time.sleep(scene.dice.uniform(2, 8))
    start_docker(host)


def start_docker(host: Host) -> None:
    """Lets the host's engine run again, and waits for it."""
    (host.root / "run/no-docker").unlink(missing_ok=True)
    wait_until(host.docker_answers, 90, 1)


def _own_work_directory(scene: Scene) -> None:
    scene.undo.enter_context(scene.victim.work_directory_in_memory())


def _fill_work_directory(scene: Scene) -> None:
    scene.victim.take_room()
    scene.undo.callback(scene.victim.give_room)
    scene.running.wait()


def _something_to_download(scene: Scene) -> None:
    """An image that no host has: only then is the registry asked."""
    scene.tag = scene.good_tag = f"chaos-fresh-{secrets.token_hex(4)}"
    images.push_fresh(scene.tag)


def _fill_downloads(scene: Scene) -> None:
    """Docker has no room for what it downloads."""
    place = "/var/lib/docker/tmp"
    _something_to_download(scene)
    scene.victim.run(f"mkdir -p {place} && mount -t tmpfs -o size=64k tmpfs {place}")
    scene.undo.callback(scene.victim.run, f"umount -l {place}", check=False)


def _clock_of_host(scene: Scene) -> None:
    host, offset = scene.victim, scene.dice.choice((-7200, -90, 90, 7200))
    (host.root / "run/ktrdr-chaos-clock").write_text(f"{offset}\n")
    program = host.root / "usr/local/bin/date"
    program.write_text(_DATE)
    program.chmod(0o755)
    scene.undo.callback(program.unlink, missing_ok=True)


# -------------------------------------------------------------------------------- the registry


def _refuse_login(scene: Scene) -> None:
    """The vault's token is not the registry's."""
    path = scene.directory / "vault.json"
    vault.write_file(path, {**scene.fields, "ghcr_token": f"ghp_{secrets.token_hex(18)}"})
    scene.env["KTRDR_LAB_VAULT"] = str(path)


def _absent(scene: Scene) -> None:
    scene.tag = "chaos-absent"


def _fails(scene: Scene) -> None:
    _something_to_download(scene)
    _registry(scene, manner="500")


def _registry(scene: Scene, *, manner: str) -> None:
    scene.registry.serve(scene.victim, manner)
    scene.undo.callback(scene.registry.leave, scene.victim)


def _stalls(scene: Scene) -> None:
    """It says nothing; the operator loses patience."""
    _something_to_download(scene)
    _registry(scene, manner="stall")


def _lose_patience(scene: Scene) -> None:
    time.sleep(scene.dice.uniform(3, 8))
    scene.running.signal(signal.SIGINT)


def _broken_image(scene: Scene, *, tag: str) -> None:
    scene.tag = tag
    scene.extra = ("--health-timeout", "20") if tag == "chaos-sickens" else ()


def _broken_image_and_registry(scene: Scene) -> None:
    """The new image is no good, and the old one cannot be had from the registry any more."""
    _broken_image(scene, tag="chaos-crashes")


FAULTS: dict[str, Fault] = {
    "SIGINT": Fault(_ALL, partial(_signal, by=signal.SIGINT)),
    "SIGTERM": Fault(_ALL, partial(_signal, by=signal.SIGTERM)),
    "SIGKILL": Fault(_ALL, partial(_signal, by=signal.SIGKILL), cuts_off=True, kills=True),
    "connection cut": Fault(_REMOTE, _cut, cuts_off=True),
    "connection silent": Fault(("fetch", "apply", "verify"), _hush, cuts_off=True),
    "remote shell killed": Fault(_REMOTE, _kill_shell, cuts_off=True),
    "Docker stopped": Fault(_REMOTE, partial(_stop_docker, by=signal.SIGTERM)),
    # Engines up to 20.10 take containers that outlived them for stopped by hand, and leave them so:
    # only where a deploy is at work on them can it be what starts them again.
    "Docker killed": Fault(
        ("apply", "verify"), partial(_stop_docker, by=signal.SIGKILL), workers_only=True
    ),
    "work directory full": Fault(
        _REMOTE, _fill_work_directory, _own_work_directory, cuts_off=True, workers_only=True
    ),
    "no room for downloads": Fault(("fetch",), arrange=_fill_downloads, workers_only=True),
    "registry refuses (401)": Fault(("fetch",), arrange=_refuse_login, one_host=True),
    "image absent (404)": Fault(("fetch",), arrange=_absent, one_host=True),
    "registry fails (500)": Fault(("fetch",), arrange=_fails, one_host=True),
    "registry stalls": Fault(("fetch",), _lose_patience, _stalls, one_host=True),
    "image crashes at once": Fault(
        ("verify",), arrange=partial(_broken_image, tag="chaos-crashes"), one_host=True
    ),
    "image ends after 10 s": Fault(
        ("verify",), arrange=partial(_broken_image, tag="chaos-dies"), one_host=True
    ),
    "image never healthy": Fault(
        ("verify",), arrange=partial(_broken_image, tag="chaos-sickens"), one_host=True
    ),
    "image crashes, registry away": Fault(
        ("verify",),
        partial(_registry, manner="500"),
        _broken_image_and_registry,
        one_host=True,
    ),
    "two at once": Fault(_ALL, _two_at_once, one_host=True),
    "laptop's clock jumps": Fault(_ALL, _clock_of_laptop, _fake_clock),
    "host's clock jumps": Fault(_REMOTE, _clock_of_host),
}
