"""Steps of a deploy to one host, each a remote script.

There are six, and nothing changes before the fourth:

1. lock: keep other deploys out, for as long as all steps take;
2. check: look at the host, and report all that is wrong with it at once;
3. fetch: put the configuration beside the old one, pull images, compare with what runs;
4. apply: put the configuration in place, and let Compose bring the stack into its new form;
5. verify: look, again and again, until every service is healthy or certainly will not be;
6. record: append the outcome to the history; then the lock is given back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final

from ktrdr.deployment.homelab.host_config import REGISTRY_LOGIN, Site
from ktrdr.deployment.homelab.secret_steps import (
    CONTAINER_UID,
    SECRETS_ROOT,
    SERVICE_HEALTH,
    delivery_extension,
    secret_options,
    secrets_extension,
)
from ktrdr.deployment.hosts.history import Entry
from ktrdr.deployment.hosts.lock import acquire_lock
from ktrdr.deployment.releases.archive import pack_files
from ktrdr.deployment.releases.release import MONITORING, Release
from ktrdr.deployment.scripts.script import Script, repeat

_CHECK_TIMEOUT_S: Final = 30.0
# A first pull brings gigabytes over a home connection.
_FETCH_TIMEOUT_S: Final = 1800.0
# Stopping has its grace periods (60 s for the database), starting waits for dependencies.
_APPLY_TIMEOUT_S: Final = 600.0
_VERIFY_TIMEOUT_S: Final = 60.0
_RECORD_TIMEOUT_S: Final = 30.0
# A container that was told to stop does so within its grace period (60 s for the database).
UNDO_TIMEOUT_S: Final = 90.0
# More events than a rollback ever needs, of a file that only grows.
_HISTORY_LINES: Final = 200
# How a deploy ends is not known before it has. Steps that are run by hand leave this reason.
_RUN_BY_HAND: Final = "its steps were run by hand, and nothing judged its health"


class StepKind(StrEnum):
    """Kinds of steps, in the order of a deploy."""

    LOCK = "lock"
    CHECK = "check"
    FETCH = "fetch"
    APPLY = "apply"
    VERIFY = "verify"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Step:
    """Step of a deploy: a script on a host.

    Attributes:
        kind: Kind of the step; the meaning of its output and of its failure follows from that.
        host: Name of the host for ssh.
        title: Title of the step, for people.
        script: Script, which names the secrets it needs.
        timeout_s: Maximum time for the script in seconds.
        undo: Script that takes the step back, if the deploy ends before a later step has used it.
    """

    kind: StepKind
    host: str
    title: str
    script: Script
    timeout_s: float
    undo: Script | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Service that a deploy is to leave running.

    Attributes:
        name: Name of the service.
        image: Image with its tag.
        says_version: True for our own programs, which report their version.
        worker_url: URL that a worker registers at the backend.
    """

    name: str
    image: str
    says_version: bool
    worker_url: str | None


@dataclass(frozen=True, slots=True)
class StepBuilder:
    """Builder of the steps of one deploy.

    Attributes:
        site: Host.
        release: Release.
        compose_files: Compose file of the release, and those that override it.
        env_file: File with the settings of the release.
        profiles: Compose profiles that are chosen.
        service: Only service that was asked for, or None for all.
        entry: Deploy as the history records it.
        note: Note of the owner in the lock.
        recovery_note: Note in the lock while services are started again after a cut-off.
        wanted: Services that are to run.
        pinned: Digests of images whose tags may have moved since, by name and tag.
        needed: Services that the only service depends on.
        surplus: Services that are to be removed.
    """

    site: Site
    release: Release
    compose_files: tuple[str, ...]
    env_file: str
    profiles: tuple[str, ...]
    service: str | None
    entry: Entry
    note: str
    recovery_note: str
    wanted: tuple[Wanted, ...]
    pinned: tuple[tuple[str, str], ...] = ()
    needed: tuple[Wanted, ...] = ()
    surplus: tuple[str, ...] = ()

    def all(self, *, validate: bool) -> tuple[Step, ...]:
        """Return the steps in their order; without validation, the host is not checked."""
        checks = (self._check(),) if validate else ()
        ended = replace(self.entry, reason=_RUN_BY_HAND).ended()
        return (
            self._lock(),
            *checks,
            self._fetch(),
            self._apply(),
            self._verify(),
            self.record(ended),
        )

    def record(self, *events: str, good: bool = True) -> Step:
        """Return the step that appends events to the history, and keeps a good configuration."""
        arguments = ["--workdir", self.site.workdir, *repeat("--event", events)]
        if good:
            arguments += ["--keep", self.entry.configuration, "--", *sorted(self.release.files)]
        script = Script("scripts/record.sh", tuple(arguments))
        return self._step(StepKind.RECORD, "record", script, _RECORD_TIMEOUT_S)

    def stack_options(self, profiles: tuple[str, ...]) -> tuple[str, ...]:
        """Return the options of ``lib/stack.sh``, with these profiles."""
        site = self.site
        only = () if self.service is None else (self.service,)
        # Files in it that are no part of the release are removed.
        sweep = (MONITORING.rstrip("/"),) if site.target == "core" else ()
        return (
            *("--project", site.project),
            *("--workdir", site.workdir),
            *repeat("--compose-file", self.compose_files),
            *("--env-file", self.env_file),
            *repeat("--profile", profiles),
            *repeat("--service", (service.name for service in self.wanted)),
            *repeat("--only", only),
            *repeat("--needs", (service.name for service in self.needed)),
            *repeat("--surplus", self.surplus),
            *repeat("--sweep", sweep),
            *secret_options(site, self._image_with_shell),
        )

    def _lock(self) -> Step:
        script = acquire_lock(self.site.workdir, self.note, wait_s=0)
        return self._step(StepKind.LOCK, "lock", script, _CHECK_TIMEOUT_S)

    def _check(self) -> Step:
        script = Script("scripts/check.sh", check_options(self.site))
        return self._step(StepKind.CHECK, "check the host", script, _CHECK_TIMEOUT_S)

    def _fetch(self) -> Step:
        site, files = self.site, self.release.files
        digests = [f"{sha256(files[path]).hexdigest()}  {path}" for path in sorted(files)]
        script = Script(
            "scripts/fetch.sh",
            (
                *self.stack_options(self.profiles),
                *("--digests", "\n".join(digests)),
                *repeat("--pin", (f"{image}@{digest}" for image, digest in self.pinned)),
                *self._image_options(),
                *("--history", str(_HISTORY_LINES)),
            ),
            extensions=(SERVICE_HEALTH, secrets_extension(site.target)),
            settings=site.settings,
            secrets=(*site.secrets, REGISTRY_LOGIN),
            payload=pack_files(files),
        )
        undo = Script("scripts/discard.sh", (site.workdir,))
        title = "fetch the release"
        return self._step(StepKind.FETCH, title, script, _FETCH_TIMEOUT_S, undo=undo)

    def _apply(self) -> Step:
        site = self.site
        secrets = (*site.secrets, *site.derived)
        script = Script(
            "scripts/apply.sh",
            (
                *self.stack_options(self.profiles),
                *("--note", self.note),
                *("--recovery-note", self.recovery_note),
                *("--event", self.entry.begun()),
                *repeat("--secret", secrets),
                *("--", *sorted(self.release.files)),
            ),
            extensions=(secrets_extension(site.target), delivery_extension(site.target)),
            settings=site.settings,
            secrets=secrets,
        )
        seconds = f"{UNDO_TIMEOUT_S - 5:.0f}"
        undo = Script("scripts/recover.sh", (site.workdir, site.project, seconds))
        return self._step(StepKind.APPLY, "apply", script, _APPLY_TIMEOUT_S, undo=undo)

    def _verify(self) -> Step:
        own = [service.name for service in self.wanted if service.says_version]
        script = look_at_containers(self.site.project, own)
        return self._step(StepKind.VERIFY, "wait until healthy", script, _VERIFY_TIMEOUT_S)

    def _image_options(self) -> tuple[str, ...]:
        """Return the options that say which images are wanted, and how each is pulled.

        A tag that never moves is pulled where it is missing; any other, every time. One that is
        pinned to what it meant before is not pulled: that would be what it means now.
        """
        tag = f":{self.release.tag}"
        concerned = (*self.wanted, *self.needed)
        pinned = dict(self.pinned)
        moving = [
            service.name
            for service in concerned
            if service.image.endswith(tag)
            and not self.release.is_immutable
            and service.image not in pinned
        ]
        resting = [service.name for service in concerned if service.name not in moving]
        return (
            *repeat("--image", sorted({service.image for service in concerned})),
            *repeat("--pull-always", moving),
            *repeat("--pull-missing", resting),
        )

    @property
    def _image_with_shell(self) -> str:
        """An image with a shell that the host has once images are pulled."""
        own = [service.image for service in self.wanted if service.says_version]
        return (own or [service.image for service in self.wanted])[0]

    def _step(
        self,
        kind: StepKind,
        title: str,
        script: Script,
        timeout_s: float,
        undo: Script | None = None,
    ) -> Step:
        return Step(kind, self.site.host, title, script, timeout_s, undo)


def check_options(site: Site) -> tuple[str, ...]:
    """Return the options with which ``check.sh`` looks at a host."""
    return (
        *("--workdir", site.workdir),
        *("--shared", site.shared_directory),
        *("--shared-is-mounted", "yes" if site.shared_is_mounted else "no"),
        *("--container-uid", str(CONTAINER_UID)),
        *repeat("--memory", [SECRETS_ROOT] if site.in_memory else []),
    )


def look_at_containers(project: str, services: Iterable[str]) -> Script:
    """Return the script that prints a project's containers, and what its own services say."""
    return Script("scripts/verify.sh", (project, *services), extensions=(SERVICE_HEALTH,))
