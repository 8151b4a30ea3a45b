#!/bin/sh
# Print facts about a host, one "NAME=VALUE" per line, and change nothing.
#
# Usage: check.sh OPTION VALUE... [--ports yes] [--reach HOST:PORT...]
#   --workdir DIRECTORY    directory for the configuration
#   --shared DIRECTORY     directory that the containers share with other hosts
#   --shared-is-mounted yes|no   whether it comes from another host, or is served by a service of this one
#   --container-uid UID    user that the containers run as
#   --memory DIRECTORY     directory for secrets in memory, with the delivery tmpfs
#   --resolve NAME         name of another host that containers resolve
#   --api "SCHEME HOST PORT PATH"   URL that must answer, because the containers need it to become healthy
#   --copy FILE            copy of the history on the share, with --ports
#   --ports yes            also print the listening ports, networks, routes, the owner of the lock, the history,
#                          and what it refers to
#   --recovery PROJECT     also print whether nothing goes on with a deploy of the project after a restart of the host
#   --reach HOST:PORT      also try to connect to a port of another host
set -eu

. ./lib/output.sh
. ./lib/directories.sh
. ./lib/docker.sh
. ./lib/facts.sh
. ./lib/lock.sh
. ./lib/history.sh
OPEN_BY_HANDLE=$(cat ./open_by_handle.pl)

# The share may not answer.
with_timeout='timeout -s KILL 5'

# Print the versions of Docker and Compose, and set $docker_root and $image_store to the directories.
check_docker() {
    docker_root='' image_store=''
    # One call for all three: each start of Docker's program takes as long as the rest of the check. It may
    # warn besides.
    code=0
    info=$(timeout -s KILL 15 docker info --format '{{.ServerVersion}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}} '"$ROOT_FORMAT" 2>&1) || code=$?
    answer='' error=''
    while IFS= read -r line; do
        case $line in
            [0-9]*' '*' '/*) answer=$line ;;
            # The answer without a daemon.
            ' '*) ;;
            'WARNING: Error '*' config file'*) fact docker_warning "${line#WARNING: Error }" ;;
            ?*) error=$line ;;
        esac
    done <<END
$info
END
    if [ -n "$answer" ]; then
        fact docker "${answer%% *}"
        answer=${answer#* }
        fact compose "${answer%% *}"
        answer=${answer#* }
        find_image_store "${answer%% *}"
        docker_root=${answer#* }
    else
        case $code:$info in
            127:*) fact docker missing ;;
            137:*) fact docker waiting ;;
            *'permission denied while trying'* | *'connect: permission denied'*) fact docker forbidden ;;
            *'Cannot connect to the Docker'* | *'failed to connect to the docker API'*) fact docker down ;;
            *) fact docker "error $error" ;;
        esac
        fact compose "$(docker compose version --short 2>/dev/null || :)"
    fi
    fact docker_kind "$(print_docker_kind "$docker_root")"
}

check_workdir() {
    nearest_existing "$workdir"
    if [ ! -d "$existing" ]; then
        fact workdir not-a-directory
    elif probe=$(mktemp "$existing/.ktrdr-XXXXXX" 2>/dev/null); then
        rm -f "$probe"
        fact workdir writable
    else
        fact workdir not-writable
    fi
}

# Print the free space of a directory's disk, if the directory exists.
#   check_disk NAME DIRECTORY
check_disk() {
    [ -e "$2" ] || return 0
    { df -Pk "$2" 2>/dev/null || :; } | awk -v name="$1" 'NR == 2 { printf "%s_free_kb=%s\n", name, $4 }'
}

# Print whether the containers' user can write to the shared directory. Root tests it as that user.
check_shared() {
    probe='' code=0
    uid=$(id -u)
    if [ "$uid" = 0 ] && command -v setpriv >/dev/null; then
        probe=$(
            $with_timeout setpriv --reuid "$container_uid" --regid "$container_uid" --clear-groups \
                mktemp "$shared/.ktrdr-XXXXXX" 2>/dev/null
        ) || code=$?
    else
        $with_timeout test -w "$shared" 2>/dev/null || code=$?
    fi
    rm -f ${probe:+"$probe"} || :
    if [ "$code" -gt 128 ]; then
        fact shared stale
    elif [ ! -d "$shared" ]; then
        fact shared missing
    elif [ "$shared_is_mounted" = yes ] && is_plain_directory; then
        fact shared not-mounted
    elif [ "$code" = 0 ] || { [ "$uid" != 0 ] && [ "$(stat -c %u "$shared")" = "$container_uid" ]; }; then
        fact shared writable
    else
        fact shared not-writable
    fi
}

# Return whether the shared directory has neither data nor the mark of the backend, and is of the host's own
# disk, as without its mount. A bind mount may be of the same device.
is_plain_directory() {
    [ ! -d "$shared/data" ] && [ ! -e "$shared/.ktrdr-share" ] &&
        [ "$(stat -c %d "$shared")" = "$(stat -c %d /)" ] && ! findmnt --mountpoint "$shared" >/dev/null
}

# Print whether a service can serve the shared directory by NFS.
check_file_server() {
    directory=/
    [ ! -d "$shared" ] || directory=$shared
    fact handles "$($with_timeout perl -e "$OPEN_BY_HANDLE" "$directory" 2>/dev/null || echo unknown)"
}

# Print the file system of a directory for secrets, and the device that memory is swapped out to.
check_memory() {
    nearest_existing "$1"
    fact memory "$(stat -f -c %T "$existing" 2>/dev/null || echo unknown)"
    # A tmpfs may be written to swap. Compressed memory and encrypted devices do not count.
    swap=none
    while read -r device kind _; do
        case $device in
            Filename | /dev/zram*) ;;
            # As lxcfs shows the swap of a container's host.
            none) swap=$kind ;;
            /dev/dm-*) grep -q ^CRYPT- "/sys/block/${device#/dev/}/dm/uuid" 2>/dev/null || swap=$device ;;
            *) swap=$device ;;
        esac
    done </proc/swaps
    ! grep -q " $existing tmpfs [^ ]*noswap" /proc/mounts || swap=none
    [ "$(cat /sys/fs/cgroup/memory.swap.max 2>/dev/null)" != 0 ] || swap=none
    fact swap "$swap"
}

# Print the listening sockets and the published ports. The kernel's list needs no further program.
check_ports() {
    fact listening "$(
        cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { printf "%s ", $2 }'
    )"
    fact published "$(
        docker ps --format '{{.Label "com.docker.compose.project"}};{{.Names}};{{.Ports}}' 2>/dev/null |
            tr '\n' '|' || :
    )"
}

# Print whether DNS servers know a name, because containers ask nothing else. A deploy asks them only for a name
# that this host may know from elsewhere, a check for every name that it knows.
#   check_name NAME
check_name() {
    case $1 in
        *.local) ;;
        *)
            grep -qisFw -e "$1" /etc/hosts || {
                [ "$ports" = yes ] && $with_timeout getent hosts "$1" >/dev/null 2>&1
            } || return 0
            ;;
    esac
    if grep -qs '^nameserver 127\.0\.0\.53' /etc/resolv.conf; then
        # systemd-resolved answers from /etc/hosts, too. Docker gives containers the servers behind it.
        set -- "$1" 1 resolvectl query --synthesize=no --protocol=dns "$1"
    else
        set -- "$1" 2 getent -s hosts:dns ahosts "$1"
    fi
    name=$1 not_found=$2 code=0
    shift 2
    $with_timeout "$@" >/dev/null 2>&1 || code=$?
    case $code in
        0) fact "resolves $name" yes ;;
        "$not_found") fact "resolves $name" no ;;
        *) fact "resolves $name" unknown ;;
    esac
}

# Try to connect to HOST:PORT. Bash itself implements redirections to /dev/tcp.
check_reach() {
    # shellcheck disable=SC2016 # the variables are those of bash
    if ! command -v bash >/dev/null; then
        fact "reaches $1" unknown
    elif answer=$(
        LC_ALL=C timeout 3 bash -c ': <"/dev/tcp/$0/$1"' "${1%:*}" "${1##*:}" 2>&1
    ); then
        fact "reaches $1" open
    else
        fact "reaches $1" "$? $(printf %s "$answer" | head -n 1)"
    fi
}

# Print the status of the answer to a URL, "open" for one with TLS, or "- CODE REASON" without an answer.
#   check_api SCHEME HOST PORT PATH
check_api() {
    # shellcheck disable=SC2016 # the variables are those of bash
    if ! command -v bash >/dev/null; then
        fact api unknown
    elif answer=$(
        LC_ALL=C timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2" || exit
            [ "$0" = http ] || { echo open; exit; }
            printf "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" "$3" "$1" >&3
            read -r _ status _ <&3 && echo "$status"' "$@" 2>&1
    ); then
        fact api "$answer"
    else
        fact api "- $? $(printf %s "$answer" | head -n 1)"
    fi
}

# Print the history, with a tab after each event, and what it refers to: kept configurations, digests of
# images, work directories of projects.
check_records() {
    ! copy_is_ahead "$workdir" "$copy" || fact copy ahead
    fact history "$(read_history "$workdir" 100 | tr '\n' '\t')"
    fact kept "$(list_kept "$workdir" | tr '\n' ' ')"
    fact digests "$(ask_docker image ls --digests --no-trunc --format '{{.Digest}} {{.ID}}' | tr '\n' ' ')"
    fact projects "$(ask_docker ps --all --format \
        '{{.Label "com.docker.compose.project"}}={{.Label "com.docker.compose.project.working_dir"}}' | tr '\n' '|')"
}

main() {
    workdir='' shared='' shared_is_mounted=no container_uid='' memory='' ports=no reach='' resolve='' recovery=''
    api='' copy=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --shared) shared=$2 ;;
            --shared-is-mounted) shared_is_mounted=$2 ;;
            --container-uid) container_uid=$2 ;;
            --memory) memory=$2 ;;
            --resolve) resolve="$resolve $2" ;;
            --api) api=$2 ;;
            --copy) copy=$2 ;;
            --ports) ports=$2 ;;
            --recovery) recovery=$2 ;;
            --reach) reach="$reach $2" ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    # While the rest is checked.
    # shellcheck disable=SC2086 # the parts of the URL are words
    [ -z "$api" ] || check_api $api &
    fact clock "$(date +%s)"
    # sshd sets the name of the user, so that `id` need not be started.
    fact user "${USER:-$(id -un)}"
    check_docker
    read -r _ size _ </proc/meminfo
    fact memory_kb "$size"
    fact processors "$(nproc)"
    check_workdir
    check_disk workdir "$existing"
    check_disk docker "$docker_root"
    check_disk image_store "$image_store"
    check_shared
    # Its code is not 0 on a machine.
    container=$(systemd-detect-virt --container 2>/dev/null) || container=
    fact container "$container"
    # The user that the containers' user is on the machine around this one, if this one is a container.
    awk -v uid="$container_uid" 'uid >= $1 && uid < $1 + $3 { printf "owner=%d\n", uid - $1 + $2 }' /proc/self/uid_map
    [ "$shared_is_mounted" = yes ] || check_file_server
    [ -z "$memory" ] || check_memory "$memory"
    if [ -n "$recovery" ] && [ -d /run/systemd/system ] && [ "$uid" != 0 ]; then
        # As root, each deploy writes the unit.
        [ -e "/etc/systemd/system/$recovery-recovery.service" ] || fact recovery missing
    fi
    if [ "$ports" = yes ]; then
        check_ports
        fact networks "$(print_docker_networks)"
        fact routes "$(print_routes)"
        fact lock "$(show_lock "$workdir" 2>/dev/null | tr '\n' ' ' || :)"
        check_records
    fi
    # Two hosts may have the same machine-id, if one is a clone of the other, but not the same network card.
    identity=
    for file in /etc/machine-id /proc/sys/kernel/hostname /sys/class/net/e*/address; do
        part=
        [ ! -r "$file" ] || read -r part <"$file" || :
        identity=$identity/$part
    done
    fact identity "$identity"
    for name in $resolve; do check_name "$name" & done
    for address in $reach; do check_reach "$address" & done
    wait
}

main "$@"
