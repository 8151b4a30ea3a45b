"""What the machine that deploys needs: looked at without asking any other."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Final

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.secret_steps import FORMER_TOKEN_SECRET
from ktrdr.deployment.hosts.problems import Finding, Point
from ktrdr.deployment.releases import compose_file as stack
from ktrdr.deployment.releases.checkout import TAG_HINT, Checkout
from ktrdr.deployment.ssh import diagnosis
from ktrdr.errors import ConfigurationError, KtrdrError

_TIMEOUT_S: Final = 10
_OLDEST_PYTHON: Final = (3, 11)


def programs(ssh: str) -> Iterator[Point]:
    """Python and OpenSSH.

    Args:
        ssh: The name or path of the ssh program.
    """
    version = platform.python_version_tuple()
    old = tuple(map(int, version[:2])) < _OLDEST_PYTHON
    need = Finding(
        f"Python {platform.python_version()} is older than 3.11",
        "Install a newer one, and ktrdr with it.",
        ConfigurationError.exit_code,
    )
    yield Point("Python", platform.python_version(), (need,) if old else ())
    found = _version_of_ssh(ssh)
    missing = () if found else (Finding.of(diagnosis.ssh_missing(ssh)),)
    yield Point("ssh", found or "", missing)


def checkout(around: Checkout, tag: str | None) -> Iterator[Point]:
    """The checkout that image and configuration follow from."""
    if tag is not None:
        yield Point("image", tag)
        return
    try:
        head = around.head()
    except KtrdrError as error:
        yield Point("checkout", findings=(Finding.of(error),))
        return
    doubts = [Finding(each, TAG_HINT, ConfigurationError.exit_code) for each in head.doubts()]
    yield Point("checkout", f"commit {head.commit[:7]}, pushed and unchanged", tuple(doubts))


def planned(make: Callable[[], Plan]) -> tuple[Plan | None, Point]:
    """A plan, and what is to be said of it: the release is there, and no setting of it is missing.

    Args:
        make: Makes the plan.
    """
    try:
        plan = make()
        lacking = tuple(_lacking(plan))
    except KtrdrError as error:
        return None, Point("configuration", findings=(Finding.of(error),))
    remark = ""
    if plan.release.commit is None:
        remark = (
            f"{plan.release.tag} names no commit that is known here, so the configuration is that "
            "of the working tree"
        )
    name = f"configuration of {plan.site.target}"
    return plan, Point(name, f"from {plan.release.source}", lacking, remark)


def _lacking(plan: Plan) -> Iterator[Finding]:
    release, site = plan.release, plan.site
    given = {
        *release.settings(site.target),
        *(name for name, _ in site.settings),
        *site.secrets,
        *FORMER_TOKEN_SECRET,
    }
    for name in stack.required(release.compose(site.target)):
        if name not in given:
            yield Finding(
                f"{release.source} has no value for the setting {name} of {site.name}",
                f"Give it one in .env.{site.target}, or deploy another commit.",
                ConfigurationError.exit_code,
            )


def _version_of_ssh(executable: str) -> str | None:
    """What the program calls itself, or None if there is none."""
    try:
        done = subprocess.run(
            [executable, "-V"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"OpenSSH_(\S+?),?\s", done.stderr)
    return f"OpenSSH {found[1]}" if found else done.stderr.partition("\n")[0]
