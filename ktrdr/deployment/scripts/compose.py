"""Command lines of Docker Compose; each names project, files and directory explicitly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ktrdr.deployment.scripts.script import quote, words


@dataclass(frozen=True, slots=True)
class Compose:
    """One project on a host.

    Attributes:
        project: Its name.
        directory: What relative paths in the compose file start from.
        files: Where compose file and settings are, which is elsewhere while they are staged; as a
            word of the shell, which may name a variable.
        file: The compose file's name.
        env_file: The name of the file with its settings.
        profiles: The profiles that are chosen.
        overrides: Further compose files, each of which changes what those before it say.
    """

    project: str
    directory: str
    files: str
    file: str
    env_file: str
    profiles: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def at(self, files: str) -> Compose:
        """The same project, described by the files in another directory: a word of the shell."""
        return replace(self, files=files)

    def pull(self, services: Iterable[str] = (), *, policy: str) -> str:
        """Pulls images: of the services named, or of all that the profiles start."""
        return self._call("pull", "--policy", policy, *services)

    def hashes(self) -> str:
        """Prints ``SERVICE HASH`` for each service, where the hash covers its configuration."""
        return self._call("config", "--hash", "*")

    def up(self, service: str | None = None, *, dependencies: Iterable[str] = ()) -> str:
        """Creates, recreates or starts what differs from the files.

        With a service, others are left alone, unless it depends on one that does not run: then it
        could not start. No image is pulled here: `pull` did, and could say why it failed.
        """
        if service is None:
            return self._call("up", "--detach", "--pull", "never", "--remove-orphans")
        alone = self._call("up", "--detach", "--pull", "never", "--no-deps", service)
        checks = [self._runs(name) for name in dependencies]
        if not checks:
            return alone
        together = self._call("up", "--detach", "--pull", "never", service)
        return f"if {' && '.join(checks)}; then\n{alone}\nelse\n{together}\nfi"

    def remove(self, services: Iterable[str]) -> str:
        """Stops and removes services, also those of profiles that are not chosen."""
        return self._call("rm", "--stop", "--force", *services, profiles=("*",))

    def _runs(self, service: str) -> str:
        query = words(
            *("docker", "ps", "--quiet"),
            *("--filter", f"label=com.docker.compose.project={self.project}"),
            *("--filter", f"label=com.docker.compose.service={service}"),
        )
        return f'[ -n "$({query})" ]'

    def _call(self, *arguments: str, profiles: tuple[str, ...] | None = None) -> str:
        chosen = self.profiles if profiles is None else profiles
        project = ("-p", self.project, "--project-directory", self.directory)
        described = [f"-f {self.files}/{quote(file)}" for file in (self.file, *self.overrides)]
        profiles_chosen = (word for profile in chosen for word in ("--profile", profile))
        return " ".join(
            [
                words("docker", "compose", *project),
                *described,
                f"--env-file {self.files}/{quote(self.env_file)}",
                words(*profiles_chosen, *arguments),
            ]
        )
