"""pytest plugin: give each xdist worker a lab of its own, so that files of tests run in parallel.

It is loaded with ``-p``, because `lab.config` reads the number of the lab when it is imported.
"""

from __future__ import annotations

import os

worker = os.environ.get("PYTEST_XDIST_WORKER")
if worker:
    first = int(os.environ.get("KTRDR_LAB_NUMBER") or 0)
    os.environ["KTRDR_LAB_NUMBER"] = str(first + int(worker.removeprefix("gw")))
