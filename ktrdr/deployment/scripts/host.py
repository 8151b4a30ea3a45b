"""Asks a host for all that preflight wants to know, in one go and without changing anything."""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.scripts.script import quote, words

# The user that the image's programs run as.
CONTAINER_UID: Final = 10001
# What the scripts of a deploy call besides Docker; a Debian or Ubuntu has all of them.
PROGRAMS: Final = ("awk", "base64", "cmp", "flock", "sha256sum", "tar")
_STALE_AFTER_S: Final = 5

# Who logs in is told their name by sshd, and root owns the root directory: each program that need
# not be started for it counts on every host.
_FACTS: Final = """fact() {{ printf '%s=%s\\n' "$1" "$2"; }}
workdir={workdir}
shared={shared}
data=
mine=
there=
lacks=
for program in {programs}; do
command -v "$program" >/dev/null || lacks="$lacks$program "
done
fact clock "$(date +%s)"
fact user "${{USER:-$(id -un)}}"
fact lacks "$lacks"
if ! command -v docker >/dev/null; then
fact docker missing
else
facts=$(docker info --format '{info}' 2>&1) || :
case "$facts" in
[0-9]*' '*' '/*)
fact docker "${{facts%% *}}"
facts=${{facts#* }}
fact compose "${{facts%% *}}"
data=${{facts#* }}
;;
*)
case "$facts" in
*'permission denied'*) fact docker forbidden ;;
*) fact docker down ;;
esac
fact compose "$(docker compose version --short 2>/dev/null || :)"
;;
esac
fi
existing=$workdir
while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
mine="$existing/.ktrdr-$$"
if [ ! -d "$existing" ]; then
fact workdir not-a-directory
elif (set -C; : >"$mine") 2>/dev/null; then
fact workdir writable
else
mine=
fact workdir not-writable
fi
set -- "$existing"
[ ! -e "$data" ] || set -- "$data" "$existing"
disks=$(df -Pk "$@" 2>/dev/null) || :
{{
read -r _ || :
[ "$#" = 1 ] || {{ read -r _ _ _ free _ && fact docker_free_kb "$free"; }} || :
read -r _ _ _ free _ && fact workdir_free_kb "$free" || :
}} <<END
$disks
END
look=
! command -v timeout >/dev/null || look='timeout -s KILL {stale_after_s}'
code=0
# The containers write there as a user of their own, whom root can try to be.
root=
[ ! -O / ] || root=yes
if [ -n "$root" ] && command -v setpriv >/dev/null; then
there=$($look setpriv --reuid {uid} --regid {uid} --clear-groups \\
mktemp "$shared/.ktrdr-XXXXXX" 2>/dev/null) || code=$?
else
$look test -w "$shared" 2>/dev/null || code=$?
fi
rm -f ${{mine:+"$mine"}} ${{there:+"$there"}} || :
if [ "$code" -gt 128 ]; then
fact shared stale
elif [ ! -d "$shared" ]; then
fact shared missing
elif {unmounted}; then
fact shared not-mounted
elif [ "$code" = 0 ]; then
fact shared writable
elif [ -z "$root" ] && [ "$(stat -c %u "$shared")" = {uid} ]; then
fact shared writable
else
fact shared not-writable
fi"""
# One call tells all three: each program of Docker takes as long to start as the rest of the check.
_INFO: Final = (
    '{{.ServerVersion}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}'
    "{{end}} {{.DockerRootDir}}"
)
# An NFS mount that is away leaves an empty directory of the host's own disk behind.
_ON_ROOT_DISK: Final = (
    '[ ! -d "$shared/data" ] && [ "$(stat -c %d "$shared")" = "$(stat -c %d /)" ]'
)


def facts(workdir: str, shared_directory: str, *, shared_is_mounted: bool) -> str:
    """Prints ``NAME=VALUE`` lines about the host.

    Args:
        workdir: Where the configuration is to be put.
        shared_directory: What the containers share with other hosts.
        shared_is_mounted: Whether it comes from another host.
    """
    return _FACTS.format(
        info=_INFO,
        workdir=quote(workdir),
        shared=quote(shared_directory),
        programs=words(*PROGRAMS),
        uid=CONTAINER_UID,
        stale_after_s=_STALE_AFTER_S,
        unmounted=_ON_ROOT_DISK if shared_is_mounted else "false",
    )


def clock() -> str:
    """Prints the host's time in seconds since 1970."""
    return "date +%s"


def disk(workdir: str) -> str:
    """Prints ``SIZE FREE DIRECTORY`` (KiB) for Docker's directory and the work directory."""
    return f"""existing={quote(workdir)}
while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
data=$(docker info --format '{{{{.DockerRootDir}}}}' 2>/dev/null) || data=
for directory in "$data" "$existing"; do
[ ! -d "$directory" ] || df -Pk "$directory" | awk -v d="$directory" 'END {{ print $2, $4, d }}'
done"""
