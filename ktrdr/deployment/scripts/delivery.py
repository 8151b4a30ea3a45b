"""Secrets as files in a host's memory, which its containers have mounted: delivery ``tmpfs``.

Each consumer has a directory of its own below `directory_of`, which everybody may list, with files
that its user alone may read. Besides them stands a random key: with it a fingerprint of what a
consumer was given is made, which containers carry as a label, so that those and only those are
replaced whose secrets have changed. Without the key, which no disk ever holds, nothing can be
learned from a fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.scripts.host import CONTAINER_UID
from ktrdr.deployment.scripts.script import quote, words

ROOT: Final = "/run/ktrdr"
# Which consumer's files a container has mounted; the compose files in deploy/tmpfs set it.
LABEL: Final = "place.mynerd.ktrdr.secrets"
FINGERPRINT_LABEL: Final = f"{LABEL}-fingerprint"
_GRAFANA_UID: Final = 472


@dataclass(frozen=True, slots=True)
class Consumer:
    """Containers that are given the same secrets.

    Attributes:
        name: Its directory.
        uid: The user that its containers run as.
        files: The variable behind each file, by the file's name.
        fingerprint: The variable that the compose file makes its label of.
        service: Its only service; empty where all services of the stack are.
    """

    name: str
    uid: int
    files: tuple[tuple[str, str], ...]
    fingerprint: str
    service: str = ""


CORE: Final = (
    Consumer(
        "backend",
        CONTAINER_UID,
        (
            ("db_password", "DB_PASSWORD"),
            ("jwt_secret", "JWT_SECRET"),
            ("jwt_secret_previous", "JWT_SECRET_PREVIOUS"),
            ("jwt_secret_previous_until", "JWT_SECRET_PREVIOUS_UNTIL"),
        ),
        "BACKEND_SECRETS",
        "backend",
    ),
    Consumer(
        "grafana",
        _GRAFANA_UID,
        (("admin_password", "GF_ADMIN_PASSWORD"),),
        "GRAFANA_SECRETS",
        "grafana",
    ),
)
WORKERS: Final = (
    Consumer(
        "worker",
        CONTAINER_UID,
        (("db_password", "DB_PASSWORD"), ("worker_token", "WORKER_TOKEN")),
        "WORKER_SECRETS",
    ),
)

_FINGERPRINT: Final = """secrets_key=$(cat @directory@/key 2>/dev/null || :)
fingerprint() {
for value; do
printf '%s' "$secrets_key$value" | sha256sum
done | sha256sum | cut -c 1-32
}"""

# Reads `CONSUMER UID FILE VALUE` from standard input, the value in base64. Runs on the host as
# root, or in a container as its root.
_INSTALL: Final = """set -eu
directory=$1 group=$2
umask 022
mkdir -p "$directory"
case $(stat -f -c %T "$directory") in
tmpfs | ramfs) ;;
*) echo "$directory is not in memory" >&2; exit 1 ;;
esac
place() {
if cmp -s "$1.new" "$1"; then rm -f "$1.new"; else mv -f "$1.new" "$1"; fi
}
if [ ! -s "$directory/key" ]; then
(umask 077; head -c 32 /dev/urandom | base64 | tr -d '\\n' >"$directory/key.new")
chgrp "$group" "$directory/key.new"
chmod 440 "$directory/key.new"
place "$directory/key"
fi
while read -r consumer uid name encoded; do
mkdir -p "$directory/$consumer"
file=$directory/$consumer/$name
(umask 377; rm -f "$file.new"; printf '%s' "$encoded" | base64 -d >"$file.new")
chown "$uid" "$file.new"
place "$file"
done"""
_REMOVE: Final = """set -eu
cd "$1"
shift
rm -rf "$@"
for left in */; do
[ ! -d "$left" ] || exit 0
done
rm -rf "$PWD"
"""

# A member of the group docker is as good as root, by a container.
_AS_ROOT: Final = """as_root() {
if [ "$(id -u)" = 0 ]; then
sh -c "$@"
else
docker run --rm --interactive --log-driver none --network none --read-only --user 0:0 \
--cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER \
--security-opt no-new-privileges --volume @root@:@root@ --entrypoint sh @image@ -c "$@"
fi
}"""
_WRITE: Final = """encoded() { printf '%s' "$1" | base64 | tr -d '\\n'; }
docker_group=$(stat -c %g "${DOCKER_SOCKET:-/var/run/docker.sock}" 2>/dev/null || echo 0)
{
@lines@
} | as_root @install@ install @directory@ "$docker_group\""""

_PRESENCE: Final = """for consumer in $(@containers@ | sort -u); do
if [ -d @directory@/"$consumer" ]; then
echo "present $consumer"
else
echo "absent $consumer"
fi
done"""


_MEMORY: Final = f"""existing={ROOT}
[ -d "$existing" ] || existing=/run
fact memory "$(stat -f -c %T "$existing" 2>/dev/null || echo unknown)"
# Pages of a tmpfs may be written to swap; memory that is compressed, or encrypted, is none.
swap=none
while read -r device _; do
case $device in
Filename | /dev/zram*) ;;
/dev/dm-*) grep -q ^CRYPT- "/sys/block/${{device#/dev/}}/dm/uuid" 2>/dev/null || swap=$device ;;
*) swap=$device ;;
esac
done </proc/swaps
! grep -q " $existing tmpfs [^ ]*noswap" /proc/mounts || swap=none
fact swap "$swap\""""


def directory_of(project: str) -> str:
    """Where the secrets of a project's containers are."""
    return f"{ROOT}/{project}"


def fingerprints(directory: str, consumers: Iterable[Consumer]) -> str:
    """Exports the fingerprint of what each consumer is to be given; changes nothing.

    Where the key or a file is missing, it is one that no container has.
    """
    body = [_filled(_FINGERPRINT, directory=quote(directory))]
    for consumer in consumers:
        values = " ".join(f'"${{{variable}-}}"' for _, variable in consumer.files)
        files = (f"{directory}/{consumer.name}/{name}" for name, _ in consumer.files)
        there = " && ".join(f"[ -e {quote(file)} ]" for file in (f"{directory}/key", *files))
        body += [
            f"if {there}; then {consumer.fingerprint}=$(fingerprint {values})",
            f"else {consumer.fingerprint}=missing; fi",
            f"export {consumer.fingerprint}",
        ]
    return "\n".join(body)


def kept_fingerprints(project: str, consumers: Iterable[Consumer]) -> str:
    """Exports the fingerprints that containers carry, as if nothing were to change."""
    of_project = f"label=com.docker.compose.project={project}"
    parts = []
    for consumer in consumers:
        listing = words(
            *("docker", "ps", "--all", "--filter", of_project),
            *("--filter", f"label={LABEL}={consumer.name}"),
            *("--format", f'{{{{.Label "{FINGERPRINT_LABEL}"}}}}'),
        )
        parts.append(f"export {consumer.fingerprint}=$({listing} | tail -n 1)")
    return "\n".join(parts)


def write(directory: str, consumers: Iterable[Consumer], image: str) -> str:
    """Writes the files whose content has changed, each whole or not at all.

    Args:
        directory: Where to.
        consumers: Whose.
        image: One that is on the host and has a shell, for those who are not root.
    """
    lines = "\n".join(
        f'echo "{consumer.name} {consumer.uid} {name} $(encoded "${{{variable}-}}")"'
        for consumer in consumers
        for name, variable in consumer.files
    )
    return "\n".join(
        [
            _as_root(image),
            _filled(_WRITE, lines=lines, install=quote(_INSTALL), directory=quote(directory)),
        ]
    )


def remove(directory: str, consumers: Iterable[Consumer], image: str) -> str:
    """Removes the files of consumers that get their secrets another way now."""
    names = words(*(consumer.name for consumer in consumers))
    there = " || ".join(f"[ -d {quote(f'{directory}/{c.name}')} ]" for c in consumers)
    removal = f"as_root {quote(_REMOVE)} remove {quote(directory)} {names}"
    return f"if {there}; then\n{_as_root(image)}\n{removal}\nfi"


def presence(project: str) -> str:
    """Prints whether what containers have mounted is in memory.

    One line for each consumer, ``present NAME`` or ``absent NAME``; none with delivery ``env``.
    """
    label = f"label=com.docker.compose.project={project}"
    listing = words(
        *("docker", "ps", "--all", "--filter", label, "--filter", f"label={LABEL}"),
        *("--format", f'{{{{.Label "{LABEL}"}}}}'),
    )
    return _filled(_PRESENCE, containers=listing, directory=quote(directory_of(project)))


def memory() -> str:
    """Prints, by what `host.facts` defines, what the directory is on, and whether it is swapped."""
    return _MEMORY


def _as_root(image: str) -> str:
    return _filled(_AS_ROOT, root=ROOT, image=quote(image))


def _filled(template: str, **parts: str) -> str:
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template
