#!/bin/sh
# Print facts about a host, "NAME=VALUE" a line, and change nothing.
#
# Usage: check.sh OPTION VALUE... [--ports yes] [--reach HOST:PORT...]
#   --workdir DIRECTORY    where the configuration is to be put
#   --shared DIRECTORY     what the containers share with other hosts
#   --shared-is-mounted yes|no   whether that comes from another host
#   --container-uid UID    the user that the containers run as
#   --memory DIRECTORY     where secrets are kept in memory, if they are
#   --ports yes            also tell who listens on the host, and who has its lock
#   --reach HOST:PORT      also try to connect to a port of another host
set -eu

. ./lib/output.sh
. ./lib/directories.sh
. ./lib/lock.sh

# Print a fact.
#   fact NAME VALUE
fact() {
    printf '%s=%s\n' "$1" "$2"
}

# What the scripts of a deploy call besides Docker; a Debian or Ubuntu has all of them.
PROGRAMS='awk base64 cmp flock sha256sum tar'

check_programs() {
    lacks=
    for program in $PROGRAMS; do
        command -v "$program" >/dev/null || lacks="$lacks$program "
    done
    fact lacks "$lacks"
}

# Set $docker_root to Docker's own directory.
check_docker() {
    docker_root=
    if ! command -v docker >/dev/null; then
        fact docker missing
        return 0
    fi
    # One call tells all three: each program of Docker takes as long to start as the rest of the check.
    info=$(docker info --format '{{.ServerVersion}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}} {{.DockerRootDir}}' 2>&1) || :
    case $info in
        [0-9]*' '*' '/*)
            fact docker "${info%% *}"
            info=${info#* }
            fact compose "${info%% *}"
            docker_root=${info#* }
            ;;
        *)
            case $info in
                *'permission denied'*) fact docker forbidden ;;
                *) fact docker down ;;
            esac
            fact compose "$(docker compose version --short 2>/dev/null || :)"
            ;;
    esac
}

# Set $probe to the file that was made to see whether the directory is writable.
check_workdir() {
    nearest_existing "$workdir"
    probe="$existing/.ktrdr-$$"
    if [ ! -d "$existing" ]; then
        fact workdir not-a-directory
    elif (set -C && : >"$probe") 2>/dev/null; then
        fact workdir writable
        return 0
    else
        fact workdir not-writable
    fi
    probe=
}

check_disks() {
    set -- "$existing"
    [ ! -e "$docker_root" ] || set -- "$docker_root" "$existing"
    disks=$(df -Pk "$@" 2>/dev/null) || :
    {
        read -r _ || :
        [ "$#" = 1 ] || { read -r _ _ _ free _ && fact docker_free_kb "$free"; } || :
        read -r _ _ _ free _ && fact workdir_free_kb "$free" || :
    } <<END
$disks
END
}

# Tell whether the shared directory is writable for the containers, which write there as a user of their
# own, whom root can try to be. Remove $probe, too.
check_shared() {
    patiently=
    ! command -v timeout >/dev/null || patiently='timeout -s KILL 5'
    # Root owns the root directory: `id` need not be started for it.
    is_root=
    # shellcheck disable=SC3067 # dash, bash and busybox have -O
    [ ! -O / ] || is_root=yes
    shared_probe='' code=0
    if [ -n "$is_root" ] && command -v setpriv >/dev/null; then
        shared_probe=$(
            $patiently setpriv --reuid "$container_uid" --regid "$container_uid" --clear-groups \
                mktemp "$shared/.ktrdr-XXXXXX" 2>/dev/null
        ) || code=$?
    else
        $patiently test -w "$shared" 2>/dev/null || code=$?
    fi
    rm -f ${probe:+"$probe"} ${shared_probe:+"$shared_probe"} || :
    if [ "$code" -gt 128 ]; then
        fact shared stale
    elif [ ! -d "$shared" ]; then
        fact shared missing
    elif [ "$shared_is_mounted" = yes ] && is_on_root_disk; then
        fact shared not-mounted
    elif [ "$code" = 0 ]; then
        fact shared writable
    elif [ -z "$is_root" ] && [ "$(stat -c %u "$shared")" = "$container_uid" ]; then
        fact shared writable
    else
        fact shared not-writable
    fi
}

# An NFS mount that is away leaves an empty directory of the host's own disk behind.
is_on_root_disk() {
    [ ! -d "$shared/data" ] && [ "$(stat -c %d "$shared")" = "$(stat -c %d /)" ]
}

# Tell what a directory for secrets is on, and whether that is swapped out.
check_memory() {
    existing=$1
    [ -d "$existing" ] || existing=${existing%/*}
    fact memory "$(stat -f -c %T "$existing" 2>/dev/null || echo unknown)"
    # Pages of a tmpfs may be written to swap; memory that is compressed, or encrypted, is none.
    swap=none
    while read -r device _; do
        case $device in
            Filename | /dev/zram*) ;;
            /dev/dm-*) grep -q ^CRYPT- "/sys/block/${device#/dev/}/dm/uuid" 2>/dev/null || swap=$device ;;
            *) swap=$device ;;
        esac
    done </proc/swaps
    ! grep -q " $existing tmpfs [^ ]*noswap" /proc/mounts || swap=none
    fact swap "$swap"
}

# The kernel's own list needs no program that a host may lack.
check_ports() {
    fact listening "$(
        cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { printf "%s ", $2 }'
    )"
    fact published "$(
        docker ps --format '{{.Label "com.docker.compose.project"}};{{.Names}};{{.Ports}}' 2>/dev/null |
            tr '\n' '|' || :
    )"
}

# Try to connect to HOST:PORT. Redirections to /dev/tcp are bash's own, and need no further program.
check_reach() {
    # shellcheck disable=SC2016 # the variables are those of bash
    if ! command -v bash >/dev/null || ! command -v timeout >/dev/null; then
        fact "reaches $1" unknown
    elif answer=$(
        LC_ALL=C timeout 3 bash -c ': <"/dev/tcp/$0/$1"' "${1%:*}" "${1##*:}" 2>&1
    ); then
        fact "reaches $1" open
    else
        fact "reaches $1" "$? $(printf %s "$answer" | head -n 1)"
    fi
}

main() {
    workdir='' shared='' shared_is_mounted=no container_uid='' memory='' ports=no reach=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --shared) shared=$2 ;;
            --shared-is-mounted) shared_is_mounted=$2 ;;
            --container-uid) container_uid=$2 ;;
            --memory) memory=$2 ;;
            --ports) ports=$2 ;;
            --reach) reach="$reach $2" ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    fact clock "$(date +%s)"
    # sshd tells the name of the user who logs in: another program that need not be started.
    fact user "${USER:-$(id -un)}"
    check_programs
    check_docker
    check_workdir
    check_disks
    check_shared
    [ -z "$memory" ] || check_memory "$memory"
    if [ "$ports" = yes ]; then
        check_ports
        fact lock "$(show_lock "$workdir" 2>/dev/null | tr '\n' ' ' || :)"
    fi
    for address in $reach; do check_reach "$address" & done
    wait
}

main "$@"
