"""Looks at a host from all sides at once: what runs, what was deployed, what has changed since."""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.releases.release import MONITORING, Target
from ktrdr.deployment.scripts import delivery, docker, history, host, lock
from ktrdr.deployment.scripts.lock import RECORDS
from ktrdr.deployment.scripts.script import quote
from ktrdr.deployment.scripts.sections import section

# Each deploy writes two; what is further back is for `ktrdr deploy history`.
_EVENTS: Final = 100
# From the events, oldest first: the configuration of the last release that ran in health.
_LAST_GOOD: Final = r"""awk '
function text(name) {
    if (!match($0, "\"" name "\":\"[^\"]*\"")) return ""
    return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
}
{ id = text("id") }
text("event") == "begun" { of[id] = text("configuration") }
text("outcome") ~ /^(deployed|unchanged)$/ { last = of[id] }
END { print last }'"""
# From what `tar --compare` says.
_DIFFERENCES: Final = (
    r"sed -n -e 's/^\(.*\): \(Contents differ\|Size differs\)$/~ \1/p'"
    r" -e 's/^tar: \(.*\): Warning: Cannot stat: .*$/- \1/p'"
)
_NEW_FILES: Final = """[ ! -d {directory} ] || {{
tar -tzf {archive}
echo
find {directory} -type f
}} | awk '!listed && $0 == "" {{ listed = 1; next }}
!listed {{ known[$0] = 1; next }}
!($0 in known) {{ print "+ " $0 }}'"""


def survey(target: Target, project: str, workdir: str) -> str:
    """Prints sections: what needs no Docker first, so that it is known where Docker is down.

    Args:
        target: Which of the two stacks belongs there.
        project: Its Compose project.
        workdir: Where its configuration is.
    """
    parts = {
        "clock": host.clock(),
        "lock": lock.show(workdir),
        "history": history.read(workdir, last=_EVENTS),
        "files": changed_files(target, workdir),
        "disk": host.disk(workdir),
        "containers": docker.containers(project),
        "images": docker.images_in_use(project),
        "delivery": delivery.presence(project),
    }
    return "\n".join(line for title, body in parts.items() for line in (section(title), body))


def changed_files(target: Target, workdir: str) -> str:
    """Prints the files that differ from those of the last good release.

    They come as ``~ FILE`` for another content, ``- FILE`` for one that is gone, and ``+ FILE`` for
    one that no release has brought.
    """
    archive = f'"{_escaped(workdir)}/{RECORDS}/releases/$configuration.tar.gz"'
    # Everywhere else the operator may keep what they like.
    look_for_new = _NEW_FILES.format(archive=archive, directory=MONITORING.rstrip("/"))
    return f"""configuration=$({{ {history.read(workdir)}; }} | {_LAST_GOOD})
if [ -n "$configuration" ] && [ -e {archive} ]; then
(cd {quote(workdir)}
LC_ALL=C tar -dzf {archive} 2>&1 | {_DIFFERENCES} | sort -u
{look_for_new if target == "core" else ":"})
fi"""


def _escaped(text: str) -> str:
    """The text within double quotes."""
    return "".join(f"\\{sign}" if sign in '"$`\\' else sign for sign in text)
