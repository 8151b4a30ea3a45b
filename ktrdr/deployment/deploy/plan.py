"""Plan of a deploy to one host, fixed before anything runs, so that it can be shown and tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.steps import Step, StepBuilder, StepKind
from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.history import ALL, DeployKind, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId, Host, HostConfig, unknown_name_error
from ktrdr.deployment.hosts.lock import LockOwner
from ktrdr.deployment.product import Product
from ktrdr.deployment.releases.compose_file import ComposeFile, Service, interpolate
from ktrdr.deployment.releases.release import Release
from ktrdr.errors import UsageError


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a deploy to one host.

    Attributes:
        product: Knowledge of the deployed software.
        config: Configuration of the host.
        options: Options of the command.
        release: Release to deploy.
        entry: History entry that records the deploy.
        lock_owner: Owner of the host's lock during the deploy.
        expected: Services that the deploy is about.
        surplus: Services to stop where they run, those beyond the scale.
        steps: Steps with their scripts.
        builder: Builds the scripts whose content is known only during the deploy.
    """

    product: Product = field(repr=False, compare=False)
    config: HostConfig
    options: DeployOptions
    release: Release
    entry: HistoryEntry
    lock_owner: LockOwner
    expected: tuple[ExpectedService, ...]
    surplus: tuple[str, ...]
    steps: tuple[Step, ...]
    builder: StepBuilder = field(repr=False, compare=False)

    @property
    def host(self) -> Host:
        return self.config.host

    @property
    def service(self) -> str:
        """Return the one service to deploy, or ``all``."""
        return self.entry.service

    def step(self, kind: StepKind) -> Step | None:
        """Return the step of a kind, or None if the plan leaves it out."""
        return next((step for step in self.steps if step.kind is kind), None)


def make_plan(
    product: Product,
    host: Host,
    release: Release,
    deploy_id: DeployId,
    options: DeployOptions,
    *,
    service: str = ALL,
    kind: DeployKind = DeployKind.DEPLOY,
    redeploy_of: HistoryEntry | None = None,
    rolled_back_from: str = "",
    lock_owner: LockOwner | None = None,
) -> Plan:
    """Plan a deploy to one host.

    Args:
        product: Knowledge of the deployed software.
        host: The host.
        release: Release to deploy.
        deploy_id: Identity of the deploy.
        options: Options of the command.
        service: Service to deploy, or ``all``.
        kind: Kind of the deploy.
        redeploy_of: Earlier deploy that is repeated, with its settings, profiles and digests.
        rolled_back_from: Id of the release that a rollback replaces.
        lock_owner: Owner of the lock, if a deploy that holds it starts this one.

    Raises:
        UsageError: The service or profile does not exist; the message lists the valid names.
        ConfigurationError: The release has no such stack.
    """
    config = product.configure(host, release)
    if redeploy_of:
        config = replace(config, settings=tuple(redeploy_of.settings.items()))
    stack = release.parse_compose_file(host.stack)
    profiles = _select_profiles(product, config, options, stack, redeploy_of)
    variables = {**release.settings(host.stack), **dict(config.settings)}

    def expect(services: Iterable[Service]) -> tuple[ExpectedService, ...]:
        return tuple(
            product.expected_service(each, config, interpolate(each.image, variables))
            for each in services
        )

    expected = expect(_select_services(stack, service, profiles))
    dependencies = stack.dependencies_of(service) if service != ALL else ()
    entry = HistoryEntry(
        deploy=deploy_id,
        kind=kind,
        service=service,
        tag=release.tag,
        commit=release.commit,
        configuration=release.configuration_hash,
        profiles=profiles,
        settings=dict(config.settings),
        rolled_back_from=rolled_back_from,
    )
    own_lock = LockOwner(deploy_id, f"{kind} of {release.tag}")
    surplus = _find_surplus(config, stack, service, profiles)
    builder = StepBuilder(
        product=product,
        config=config,
        release=release,
        entry=entry,
        lock_note=(lock_owner or own_lock).to_json(),
        recovery_note=own_lock.for_recovery().to_json(),
        expected=expected,
        pinned=_recorded_digests(redeploy_of, expected),
        dependencies=expect(each for each in stack.services if each.name in dependencies),
        surplus=surplus,
    )
    return Plan(
        product=product,
        config=config,
        options=options,
        release=release,
        entry=entry,
        lock_owner=lock_owner or own_lock,
        expected=expected,
        surplus=surplus,
        steps=builder.all(validate=not options.skip_validation),
        builder=builder,
    )


def _select_profiles(
    product: Product,
    config: HostConfig,
    options: DeployOptions,
    stack: ComposeFile,
    redeploy_of: HistoryEntry | None,
) -> tuple[str, ...]:
    if redeploy_of:
        return tuple(name for name in redeploy_of.profiles if name in stack.profiles)
    for profile in options.profiles:
        if profile not in stack.profiles:
            raise unknown_name_error("profile", profile, stack.profiles)
    scale = product.scale_profiles(options.scale) if options.scale else config.scale_profiles
    return tuple(dict.fromkeys([*scale, *options.profiles]))


def _select_services(stack: ComposeFile, name: str, profiles: Iterable[str]) -> tuple[Service, ...]:
    running = stack.enabled_services(profiles)
    if name == ALL:
        return running
    if name not in stack.names:
        raise unknown_name_error("service", name, [*stack.names, ALL])
    service = next((service for service in running if service.name == name), None)
    if service is None:
        raise UsageError(
            f"the service {name} runs only with a profile that is not selected",
            hint=f"Select a profile with --profile; {name} has: {', '.join(stack.profiles)}.",
        )
    return (service,)


def _find_surplus(
    config: HostConfig, stack: ComposeFile, service: str, profiles: Iterable[str]
) -> tuple[str, ...]:
    """Return the services of unselected profiles, where the profiles express a scale."""
    if not config.host.node or service != ALL:
        return ()
    kept = {each.name for each in stack.enabled_services(profiles)}
    return tuple(name for name in stack.names if name not in kept)


def _recorded_digests(
    redeploy_of: HistoryEntry | None, expected: Iterable[ExpectedService]
) -> tuple[tuple[str, str], ...]:
    """Return the images to pin: those of an earlier deploy whose digest was recorded."""
    digests: Mapping[str, str] = redeploy_of.images if redeploy_of else {}
    images = dict.fromkeys(service.image for service in expected)
    return tuple((image, digests[image]) for image in images if digests.get(image))
