"""Makes the pictures of docs/pictures from the lab: `make screens`.

Each is what a terminal of 80 columns shows at one moment of a real command. The lab is left with
the checked-out release on it.
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
from scripts.picture import Terminal, draw

PICTURES: Final = ROOT / "docs/pictures"
OWN: Final = (
    ("ktrdr-lab/ktrdr-backend", BACKEND_REPOSITORY),
    ("ktrdr-lab/ktrdr-nfs-server", NFS_REPOSITORY),
)
# A release that nobody would want: it ends as soon as it is started.
BROKEN: Final = "sha-bad0bad"


class Screens:
    """The pictures, each method one command at one moment or several.

    Attributes:
        place: A directory for what they need.
        before: The release that was there before, which is as good as the one checked out.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.before = f"sha-{_git('rev-parse', 'HEAD~1')[:7]}"

    def deploy(self) -> None:
        """Beginning, middle and end of a deploy that brings another release to all hosts."""
        for image, repository in OWN:
            registries.push_image(image, repository, self.before)
        _quietly("deploy", "all", "--yes", "--tag", self.before)
        with _terminal("deploy", "all") as terminal:
            _draw(terminal.when(r"fetch the release +\d"), "deploy-start")
            _draw(terminal.when(r"^core +.* wait until healthy +[2-9]"), "deploy-middle")
            _draw(terminal.after(), "deploy")

    def rollback(self) -> None:
        """A deploy that fails, and goes back by itself."""
        bad = "ktrdr-lab/broken"
        recipe = f'FROM {OWN[0][0]}\nENTRYPOINT ["false"]\n'
        run(docker(), "build", "--quiet", "--tag", bad, "-", stdin=recipe.encode())
        registries.push_image(bad, BACKEND_REPOSITORY, BROKEN)
        with _terminal("deploy", "workers", "B", "--tag", BROKEN) as terminal:
            _draw(terminal.after(), "deploy-rollback")

    def status(self) -> None:
        """What runs, from the backend's side and from the hosts'."""
        _quietly("token", "create", "--role", "operator", "--save")
        for words in (["status"], ["deploy", "status"]):
            with _terminal(*words) as terminal:
                _draw(terminal.after(), "-".join(words))

    def check(self) -> None:
        """All well; and several things wrong at once."""
        # In a checkout at home, wherever this one is.
        home, checkout = self.place, self.place / "ktrdr"
        run("git", "clone", "--quiet", str(ROOT), str(checkout))
        with _terminal("deploy", "check", cwd=checkout, HOME=str(home)) as terminal:
            _draw(terminal.after(), "deploy-check")
        fields = {
            name: vault.read_field(name) for name in ("db_username", "db_password", "ghcr_token")
        }
        path = self.place / "vault.json"
        vault.write_file(path, {**fields, "jwt_secret": "short", "grafana_password": ""})
        slips = ["--set", "core.ports.grafana=22", "--set", "workers.B.host=nobody"]
        with _terminal(
            *("deploy", "check", *slips),
            cwd=checkout,
            shown="ktrdr deploy check",
            HOME=str(home),
            KTRDR_LAB_VAULT=str(path),
        ) as terminal:
            _draw(terminal.after(), "deploy-check-findings")

    def diff(self) -> None:
        """What a commit would change that alerts later and says more."""
        checkout = self.place / "changed"
        run("git", "clone", "--quiet", str(ROOT), str(checkout))
        settings, rules = checkout / ".env.core", checkout / "monitoring/rules/ktrdr.yml"
        settings.write_text(settings.read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=DEBUG"))
        rules.write_text(rules.read_text().replace("for: 1m", "for: 5m", 1))
        _git("commit", "--quiet", "--all", "-m", "Alert later, and say more", at=checkout)
        with _terminal("deploy", "diff", cwd=checkout, KTRDR_DEPLOY_TAG="") as terminal:
            _draw(terminal.after(), "deploy-diff")

    def history(self) -> None:
        """What ran on every host, and what came of it."""
        with _terminal("deploy", "history", "--last", "4") as terminal:
            _draw(terminal.after(), "deploy-history")


# In this order: each leaves the lab as the next one needs it.
NAMES: Final = ("deploy", "status", "check", "diff", "rollback", "history")


def main() -> None:
    """Makes all pictures, or those that are named."""
    os.environ |= demo.lab_environment()
    os.environ["PATH"] = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    # As in a terminal of one's own, whatever this one is.
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "KTRDR_INVENTORY"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as place:
        screens = Screens(Path(place))
        for name in sys.argv[1:] or NAMES:
            sys.stderr.write(f"pictures of {name} …\n")
            getattr(screens, name)()


def _terminal(
    *words: str, cwd: Path = ROOT, shown: str | None = None, **environment: str
) -> Terminal:
    given = [f"{name}={value}" for name, value in environment.items()]
    command = ["env", "-C", str(cwd), *given, "ktrdr", *words]
    return Terminal(command, shown=shown or " ".join(["ktrdr", *words]))


def _draw(screen: str, name: str) -> None:
    draw(screen, PICTURES / f"{name}.svg", "ktrdr")


def _quietly(*words: str) -> None:
    run("ktrdr", *words, timeout=300)


def _git(*words: str, at: Path = ROOT) -> str:
    who = ["-c", "user.name=ktrdr", "-c", "user.email=ktrdr@example.org"]
    said: str = run("git", "-C", str(at), *who, *words).stdout
    return said.strip()


if __name__ == "__main__":
    main()
