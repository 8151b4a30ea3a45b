"""Draw the terminal pictures of docs/pictures in the lab: `make screens`.

Each shows a terminal of 80 columns at one moment of a real command. At the end the lab runs the
release of the checkout.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from lab import demo, registries, vault
from lab.config import BACKEND_REPOSITORY, NFS_REPOSITORY, ROOT
from lab.engine import docker
from lab.shell import run
from scripts.picture import Terminal, draw_screen

PICTURES: Final = ROOT / "docs/pictures"
IMAGES: Final = (
    ("ktrdr-lab/ktrdr-backend", BACKEND_REPOSITORY),
    ("ktrdr-lab/ktrdr-nfs-server", NFS_REPOSITORY),
)
# A release that exits immediately.
BROKEN: Final = "sha-bad0bad"


class Screens:
    """Pictures; each method draws those of one command.

    Attributes:
        directory: Directory for temporary files.
        previous_tag: Tag of the previous release, which has the same images.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.previous_tag = f"sha-{_git('rev-parse', 'HEAD~1')[:7]}"

    def deploy(self) -> None:
        """Draw beginning, middle and end of a deploy of another release to all hosts."""
        for image, repository in IMAGES:
            registries.push_image(image, repository, self.previous_tag)
        _run_ktrdr("deploy", "all", "--yes", "--tag", self.previous_tag)
        with _terminal("deploy", "all") as terminal:
            _draw(terminal.wait_for_text(r"fetch the release +\d"), "deploy-start")
            _draw(terminal.wait_for_text(r"^core +.* wait until healthy +[2-9]"), "deploy-middle")
            _draw(terminal.wait_for_end(), "deploy")

    def rollback(self) -> None:
        """Draw a deploy that fails and is rolled back."""
        image = "ktrdr-lab/broken"
        dockerfile = f'FROM {IMAGES[0][0]}\nENTRYPOINT ["false"]\n'
        run(docker(), "build", "--quiet", "--tag", image, "-", stdin=dockerfile.encode())
        registries.push_image(image, BACKEND_REPOSITORY, BROKEN)
        with _terminal("deploy", "workers", "B", "--tag", BROKEN) as terminal:
            _draw(terminal.wait_for_end(), "deploy-rollback")

    def status(self) -> None:
        """Draw the status from the backend and from the hosts."""
        _run_ktrdr("token", "create", "--role", "operator", "--save")
        for words in (["status"], ["deploy", "status"]):
            with _terminal(*words) as terminal:
                _draw(terminal.wait_for_end(), "-".join(words))

    def check(self) -> None:
        """Draw a check without problems, and one with several."""
        # In a checkout in the home directory, so that paths are short.
        home, checkout = self.directory, self.directory / "ktrdr"
        run("git", "clone", "--quiet", str(ROOT), str(checkout))
        with _terminal("deploy", "check", cwd=checkout, HOME=str(home)) as terminal:
            _draw(terminal.wait_for_end(), "deploy-check")
        fields = {
            name: vault.read_field(name) for name in ("db_username", "db_password", "ghcr_token")
        }
        path = self.directory / "vault.json"
        vault.write_file(path, {**fields, "jwt_secret": "short", "grafana_password": ""})
        mistakes = ["--set", "core.ports.grafana=22", "--set", "workers.B.host=nobody"]
        with _terminal(
            *("deploy", "check", *mistakes),
            cwd=checkout,
            shown="ktrdr deploy check",
            HOME=str(home),
            KTRDR_LAB_VAULT=str(path),
        ) as terminal:
            _draw(terminal.wait_for_end(), "deploy-check-findings")

    def diff(self) -> None:
        """Draw the changes of a commit that changes an alert and a log level."""
        checkout = self.directory / "changed"
        run("git", "clone", "--quiet", str(ROOT), str(checkout))
        settings, rules = checkout / ".env.core", checkout / "monitoring/rules/ktrdr.yml"
        settings.write_text(settings.read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=DEBUG"))
        rules.write_text(rules.read_text().replace("for: 1m", "for: 5m", 1))
        _git("commit", "--quiet", "--all", "-m", "Alert later, and log more", at=checkout)
        with _terminal("deploy", "diff", cwd=checkout, KTRDR_DEPLOY_TAG="") as terminal:
            _draw(terminal.wait_for_end(), "deploy-diff")

    def history(self) -> None:
        """Draw the history of all hosts."""
        with _terminal("deploy", "history", "--last", "4") as terminal:
            _draw(terminal.wait_for_end(), "deploy-history")


# The order matters: each leaves the lab in the state that the next one needs.
NAMES: Final = ("deploy", "status", "check", "diff", "rollback", "history")


def main() -> None:
    """Draw all pictures, or the named ones."""
    os.environ |= demo.lab_environment()
    os.environ["PATH"] = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    # The environment of this terminal must not affect the pictures.
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "KTRDR_INVENTORY"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as directory:
        screens = Screens(Path(directory))
        for name in sys.argv[1:] or NAMES:
            sys.stderr.write(f"pictures of {name} …\n")
            getattr(screens, name)()


def _terminal(
    *words: str, cwd: Path = ROOT, shown: str | None = None, **environment: str
) -> Terminal:
    variables = [f"{name}={value}" for name, value in environment.items()]
    command = ["env", "-C", str(cwd), *variables, "ktrdr", *words]
    return Terminal(command, shown=shown or " ".join(["ktrdr", *words]))


def _draw(screen: str, name: str) -> None:
    draw_screen(screen, PICTURES / f"{name}.svg", "ktrdr")


def _run_ktrdr(*words: str) -> None:
    run("ktrdr", *words, timeout=300)


def _git(*words: str, at: Path = ROOT) -> str:
    author = ["-c", "user.name=ktrdr", "-c", "user.email=ktrdr@example.org"]
    output: str = run("git", "-C", str(at), *author, *words).stdout
    return output.strip()


if __name__ == "__main__":
    main()
