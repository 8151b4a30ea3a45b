"""Capacity of a host: whether it has the memory and the processors that its services may use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.problems import CheckResult, Problem

_MIB_PER_GIB: Final = 1024
_KIB_PER_GIB: Final = 1024**2
# Firmware and kernel keep a part of the memory that a machine was bought with.
_TOLERANCE: Final = 1.1
_HINT: Final = (
    "Lower the number of workers or their limits in the inventory (docs/adding-a-node.md), or give "
    "the host more."
)


def check_capacity(plan: Plan, facts: Mapping[str, str]) -> CheckResult:
    """Compare the limits of a node's services with what the node has.

    Memory must suffice for all of them at the same time. Processors are shared, so that only a
    service that may use more than all of them is a problem: Docker does not create it.
    """
    names = {service.name for service in plan.expected}
    services = plan.release.parse_compose_file(plan.host.stack).services
    expected = [service for service in services if service.name in names]
    memory = round(int(facts["memory_kb"]) / _KIB_PER_GIB, 1)
    processors = int(facts["processors"])
    sizes = Counter(each.memory_mb / _MIB_PER_GIB for each in expected if each.memory_mb)
    used, cpus = sum(sizes.elements()), sum(each.cpus or 0 for each in expected)
    texts = []
    if used > memory * _TOLERANCE:
        terms = " + ".join(f"{count} × {size:g}" for size, count in sorted(sizes.items()))
        texts.append(f"its services may use {terms} = {used:g} GiB of memory, but it has {memory}")
    texts += [
        f"{service.name} may use {service.cpus:g} processors, but it has {processors}"
        for service in expected
        if service.cpus and service.cpus > processors
    ]
    detail = f"{used:g} of {memory} GiB of memory, {cpus:g} of {processors} processors"
    return CheckResult("capacity", detail, tuple(Problem(text, _HINT) for text in texts))
