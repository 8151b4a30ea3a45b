"""One deploy from the vault to the healthy stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

from ktrdr.deployment import credentials, events
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.events import Observer
from ktrdr.deployment.gate import WorkerDirectory
from ktrdr.deployment.inventory import Inventory
from ktrdr.deployment.plan import Plan
from ktrdr.deployment.result import DeployResult
from ktrdr.deployment.run import CountingTransport, Runner
from ktrdr.deployment.secrets.source import SecretSource
from ktrdr.errors import Interrupted
from ktrdr.secret import Scrubber, Secret

_READING: Final = "read the secrets"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a deploy needs of the world outside; the CLI passes the real things in.

    Attributes:
        source: The vault.
        transport: Makes the way to the hosts, given what cleans all that comes back.
        directory: Makes the question for the backend's workers, given JWT_SECRET to sign it with.
        observe: Is told all that happens.
        agree: Is given what could be lost; raises where that is not wanted.
        clock: The time.
    """

    source: SecretSource
    transport: Callable[[Scrubber], AbstractContextManager[CountingTransport]]
    directory: Callable[[Secret], WorkerDirectory]
    observe: Observer
    agree: Callable[[Sequence[str]], None]
    clock: Clock


def deploy(plan: Plan, inventory: Inventory, world: Surroundings) -> DeployResult:
    """Reads the secrets, all of them before any host is touched, and runs the plan.

    Raises:
        SecretsError: The vault does not give them, or one of them cannot be used.
        KtrdrError: See `Runner.run`.
    """
    began = world.clock.monotonic()
    world.observe(events.StepStarted(_READING))
    try:
        fields = credentials.fetch(world.source, plan)
    except KeyboardInterrupt as exc:
        raise Interrupted(
            "the deploy was interrupted before it touched any host", hint="Run it again."
        ) from exc
    took = world.clock.monotonic() - began
    world.observe(events.StepFinished(_READING, took, f"{len(fields)} fields"))
    values = credentials.values(fields, inventory, plan, now=world.clock.now())
    with world.transport(credentials.scrubber(fields, values, plan)) as transport:
        runner = Runner(
            plan=plan,
            values=values,
            transport=transport,
            observe=world.observe,
            agree=world.agree,
            directory=world.directory(fields["jwt_secret"]),
            clock=world.clock,
        )
        result = runner.run()
    return replace(result, duration_s=world.clock.monotonic() - began)
