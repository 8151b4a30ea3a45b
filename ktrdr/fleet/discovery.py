"""The registered workers as Prometheus' HTTP service discovery wants them.

Format: https://prometheus.io/docs/prometheus/latest/http_sd/, a list of target groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from ktrdr.schemas import Contract, Worker


class TargetGroup(Contract):
    """Targets that share labels."""

    targets: list[str]
    labels: dict[str, str]


def target_groups(workers: Iterable[Worker]) -> list[TargetGroup]:
    """A group for every worker; its job is named after the node, as ``ktrdr-workers-b``."""
    return [
        TargetGroup(
            targets=[urlsplit(worker.endpoint_url).netloc],
            labels={
                "job": f"ktrdr-{worker.node.partition('.')[0]}",
                "node": worker.node,
                "worker_id": worker.worker_id,
                "worker_type": worker.worker_type.value,
            },
        )
        for worker in workers
    ]
