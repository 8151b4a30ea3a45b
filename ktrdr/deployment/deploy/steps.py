"""Steps of a deploy to one host, each a remote script.

There are six, and nothing changes before the fourth:

1. lock: exclude other deploys until the end;
2. check: query the host, and report all its problems together;
3. fetch: put the configuration beside the current one, pull images, compare with what runs;
4. apply: put the configuration in its place, and let Compose change the services;
5. verify: query the services until they are healthy, or certainly will not be;
6. record: append the outcome to the history; then the lock is released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final

from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.history import ALL, HistoryEntry
from ktrdr.deployment.hosts.host import HostConfig
from ktrdr.deployment.hosts.lock import acquire_script
from ktrdr.deployment.product import REGISTRY_LOGIN, Product
from ktrdr.deployment.releases.release import (
    Release,
    compose_file_name,
    env_file_name,
    pack_archive,
)
from ktrdr.deployment.scripts.script import Script, repeat

_CHECK_TIMEOUT_S: Final = 30.0
# A first pull brings gigabytes over a home connection.
_FETCH_TIMEOUT_S: Final = 1800.0
# Stopping has its grace periods (60 s for the database), starting waits for dependencies.
_APPLY_TIMEOUT_S: Final = 600.0
_VERIFY_TIMEOUT_S: Final = 60.0
_RECORD_TIMEOUT_S: Final = 30.0
# A container stops within its grace period (60 s for the database).
UNDO_TIMEOUT_S: Final = 90.0
# The history only grows. A rollback needs fewer events than these.
_HISTORY_EVENTS: Final = 200
# Before a deploy, its outcome is unknown. If an operator runs the steps by hand, this is recorded.
_RUN_BY_HAND: Final = "its steps were run by hand, and nothing checked its health"


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
        kind: Kind of the step, which determines the meaning of its output and of its failure.
        host: Address of the host.
        title: Title for people.
        script: The script; it names the secrets that it needs.
        timeout_s: Maximum duration (s).
        undo: Script that undoes the step, if the deploy ends before a later step has used it.
    """

    kind: StepKind
    host: str
    title: str
    script: Script
    timeout_s: float
    undo: Script | None = None


@dataclass(frozen=True, slots=True)
class StepBuilder:
    """Builder of the steps of one deploy.

    Attributes:
        product: Knowledge of the deployed software.
        config: Configuration of the host.
        release: Release to deploy.
        entry: History entry that records the deploy.
        lock_note: Line that names the owner in the lock file.
        recovery_note: Line that names the watchdog there, if the deploy was cut off.
        expected: Services that the deploy is about.
        pinned: Digests of images whose tags may have moved, by name and tag.
        dependencies: Services that the only service depends on.
        surplus: Services to remove where they exist.
    """

    product: Product
    config: HostConfig
    release: Release
    entry: HistoryEntry
    lock_note: str
    recovery_note: str
    expected: tuple[ExpectedService, ...]
    pinned: tuple[tuple[str, str], ...] = ()
    dependencies: tuple[ExpectedService, ...] = ()
    surplus: tuple[str, ...] = ()

    def all(self, *, validate: bool) -> tuple[Step, ...]:
        """Return the steps in their order; without validation, the host is not checked."""
        return (
            self._lock(),
            *([self._check()] if validate else []),
            self._fetch(),
            self._apply(),
            self._verify(),
            self.record(replace(self.entry, reason=_RUN_BY_HAND).ended_event()),
        )

    def _lock(self) -> Step:
        script = acquire_script(self.config.host.workdir, self.lock_note, wait_s=0)
        return self._step(StepKind.LOCK, "lock", script, _CHECK_TIMEOUT_S)

    def _check(self) -> Step:
        script = Script("scripts/check.sh", check_options(self.config))
        return self._step(StepKind.CHECK, "check the host", script, _CHECK_TIMEOUT_S)

    def _fetch(self) -> Step:
        config, files = self.config, self.release.files
        extensions = self.product.script_extensions(config.host)
        digests = [f"{sha256(files[path]).hexdigest()}  {path}" for path in sorted(files)]
        script = Script(
            "scripts/fetch.sh",
            (
                *self.stack_options(self.entry.profiles),
                *("--digests", "\n".join(digests)),
                *repeat("--pin", (f"{image}@{digest}" for image, digest in self.pinned)),
                *self._image_options(),
                *("--history", str(_HISTORY_EVENTS)),
            ),
            extensions=(extensions.health, extensions.secrets),
            settings=config.settings,
            secrets=(*config.secrets, REGISTRY_LOGIN),
            payload=pack_archive(files),
        )
        undo = Script("scripts/discard.sh", (config.host.workdir,))
        return self._step(StepKind.FETCH, "fetch the release", script, _FETCH_TIMEOUT_S, undo)

    def _apply(self) -> Step:
        config, host = self.config, self.config.host
        extensions = self.product.script_extensions(host)
        secrets = (*config.secrets, *config.apply_secrets)
        script = Script(
            "scripts/apply.sh",
            (
                *self.stack_options(self.entry.profiles),
                *("--note", self.lock_note),
                *("--recovery-note", self.recovery_note),
                *("--event", self.entry.begun_event()),
                *repeat("--secret", secrets),
                *("--", *sorted(self.release.files)),
            ),
            extensions=(extensions.secrets, extensions.delivery),
            settings=config.settings,
            secrets=secrets,
        )
        timeout_s = f"{UNDO_TIMEOUT_S - 5:.0f}"
        undo = Script("scripts/recover.sh", (host.workdir, host.project, timeout_s))
        return self._step(StepKind.APPLY, "apply", script, _APPLY_TIMEOUT_S, undo)

    def _verify(self) -> Step:
        own = (service.name for service in self.expected if service.reports_version)
        health = self.product.script_extensions(self.config.host).health
        arguments = (self.config.host.project, *own)
        script = Script("scripts/verify.sh", arguments, extensions=(health,))
        return self._step(StepKind.VERIFY, "wait until healthy", script, _VERIFY_TIMEOUT_S)

    def record(self, *events: str, good: bool = True) -> Step:
        """Return the step that appends events to the history, and keeps a good configuration."""
        arguments = ["--workdir", self.config.host.workdir, *repeat("--event", events)]
        if good:
            arguments += ["--keep", self.entry.configuration, "--", *sorted(self.release.files)]
        script = Script("scripts/record.sh", tuple(arguments))
        return self._step(StepKind.RECORD, "record", script, _RECORD_TIMEOUT_S)

    def stack_options(self, profiles: Iterable[str]) -> tuple[str, ...]:
        """Return the options of ``lib/stack.sh``.

        Args:
            profiles: Compose profiles to select.
        """
        config, host = self.config, self.config.host
        compose_files = [compose_file_name(host.stack)]
        if config.secrets_in_memory:
            compose_files.append(self.release.require_tmpfs_file(host.stack))
        only = [] if self.entry.service == ALL else [self.entry.service]
        managed = [host.managed_directory] if host.managed_directory else []
        # The host has an image of our own, if there is any, once images are pulled.
        own = [service.image for service in self.expected if service.reports_version]
        image_with_shell = (own or [service.image for service in self.expected])[0]
        return (
            *("--project", host.project),
            *("--workdir", host.workdir),
            *repeat("--compose-file", compose_files),
            *("--env-file", env_file_name(host.stack)),
            *repeat("--profile", profiles),
            *repeat("--service", (service.name for service in self.expected)),
            *repeat("--only", only),
            *repeat("--dependency", (service.name for service in self.dependencies)),
            *repeat("--surplus", self.surplus),
            *repeat("--managed-directory", managed),
            *("--secrets-delivery", "tmpfs" if config.secrets_in_memory else "env"),
            *("--secrets-directory", host.secrets_directory),
            *("--secrets-image", image_with_shell),
            *self.product.script_extensions(host).options,
        )

    def _image_options(self) -> tuple[str, ...]:
        """Return the options that name the images, and how each is pulled.

        An image with an immutable tag is pulled if it is missing, any other every time. An image
        that is pinned to a digest is not pulled by its tag, which may name another image now.
        """
        tag, pinned = f":{self.release.tag}", dict(self.pinned)
        services = (*self.expected, *self.dependencies)
        movable = [
            service.name
            for service in services
            if service.image.endswith(tag)
            and not self.release.is_immutable
            and service.image not in pinned
        ]
        immutable = [service.name for service in services if service.name not in movable]
        return (
            *repeat("--image", sorted({service.image for service in services})),
            *repeat("--pull-always", movable),
            *repeat("--pull-missing", immutable),
        )

    def _step(
        self,
        kind: StepKind,
        title: str,
        script: Script,
        timeout_s: float,
        undo: Script | None = None,
    ) -> Step:
        return Step(kind, self.config.host.address, title, script, timeout_s, undo)


def check_options(config: HostConfig) -> tuple[str, ...]:
    """Return the options with which ``check.sh`` queries a host."""
    root = [config.host.secrets_root] if config.secrets_in_memory else []
    return (
        *("--workdir", config.host.workdir),
        *("--shared", config.shared_directory),
        *("--shared-is-mounted", "yes" if config.is_share_mounted else "no"),
        *("--container-uid", str(config.container_uid)),
        *repeat("--memory", root),
    )
