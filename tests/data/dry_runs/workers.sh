# workers B on workers-b.lab.test: sha-abc1234, with the configuration of commit abc1234
#
# To deploy without ktrdr, pass all of this to `sh` on the host, with these
# variables exported: DB_USER, DB_PASSWORD, WORKER_TOKEN, DOCKER_AUTH_CONFIG

# Step 1 of 7: lock (at most 30 s)
# Acquire the lock of a host for the shell that runs this script. The shell holds the lock until
# release_lock.sh, or until the shell ends for any reason. So no lock can become stale.
#
# Usage: acquire_lock.sh WORKDIR SECONDS NOTE
# Waits SECONDS for another owner. NOTE is the line that names this owner, and is unique to it. Fails with 75
# and prints "PID NOTE" of the other owner if the lock is held. Fails with 69 if the host has no flock.

# Return whether the lock is held only by a supervisor or watchdog whose owner is gone.
is_left_behind() {
    read -r holder _ <"$lock_file" || return 1
    grep -qF 'recovery after' "$lock_file" ||
        [ "$(readlink "/proc/$holder/fd/9")" != "$(readlink -f "$lock_file")" ]
}

main() {
    command -v flock >/dev/null || return 69
    lock_file=$1/.ktrdr/lock
    # Try this in a subshell first, because a failed redirection of `exec` ends the shell.
    (
        umask 022
        { [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"; } && exec 9<>"$lock_file"
    ) || return 1
    exec 9<>"$lock_file"
    # Always wait for the host to finish what its owner has left behind.
    flock -w "$2" 9 || { is_left_behind && flock -w 600 9; } || {
        cat "$lock_file"
        exec 9>&-
        return 75
    }
    printf '%s %s\n' "$$" "$3" >"$lock_file" || :
}

main /opt/ktrdr-workers-b 1 '{"id": "20261123-120000-ab12", "who": "ada@laptop", "reason": "deploy of sha-abc1234", "since": "2026-11-23T12:00:00+00:00"}' </dev/null || exit

# Step 2 of 7: check the host (at most 30 s)
(
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

# ---- scripts/lib/output.sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/directories.sh
# Directories of the host.

# Type of Docker's image store if it is containerd's, a space, and Docker's directory.
ROOT_FORMAT='{{range .DriverStatus}}{{if eq (index . 0) "driver-type"}}{{index . 1}}{{end}}{{end}} {{.DockerRootDir}}'

# Set $image_store to the directory of containerd's image store, or to nothing with Docker's classic store,
# which is in Docker's directory.
#   find_image_store TYPE
find_image_store() {
    image_store=
    case $1 in
        io.containerd.*)
            image_store=$(sed -n "s/^root *= *[\"']\(.*\)[\"'].*/\1/p" /etc/containerd/config.toml 2>/dev/null) || :
            image_store=${image_store:-/var/lib/containerd}
            ;;
    esac
}

# Set $existing to a path if it exists, or to the nearest directory above it that exists.
#   nearest_existing PATH
nearest_existing() {
    existing=$1
    while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
}

# ---- scripts/lib/docker.sh
# Kinds of Docker, its networks, and the routes of the host.

# Run Docker's program. It waits while Docker itself waits, for example for the share.
#   ask_docker ARGUMENT...
ask_docker() {
    timeout -s KILL 10 docker "$@" 2>/dev/null
}

# Print "snap", "rootless" or "podman" if Docker is one of these, which cannot run the stacks.
#   print_docker_kind DIRECTORY   Docker's directory, if it is known
print_docker_kind() {
    program=$(command -v docker || echo /snap/bin/docker)
    case $(readlink -f "$program"):$1 in
        /snap/* | */bin/snap:* | *:/var/snap/*) [ ! -e "$program" ] || echo snap ;;
        *:*/containers/storage) echo podman ;;
        *:*/.local/share/docker) echo rootless ;;
        *:/*) ;;
        *)
            case $(docker --version 2>/dev/null) in
                podman*) echo podman ;;
                *) ! ls /run/user/*/docker.sock >/dev/null 2>&1 || echo rootless ;;
            esac
            ;;
    esac
}

# Print "NAME ID BRIDGE SUBNET...|" for each bridge network. BRIDGE is "-" if the id names the bridge.
print_docker_networks() {
    ask_docker network ls --quiet --filter driver=bridge | xargs -r docker network inspect --format \
        '{{.Name}} {{printf "%.12s" .Id}} {{with index .Options "com.docker.network.bridge.name"}}{{.}}{{else}}-{{end}}{{range .IPAM.Config}} {{.Subnet}}{{end}}' 2>/dev/null |
        tr '\n' '|' || :
}

# Print "NETWORK INTERFACE|" for each IPv4 route of all tables.
print_routes() {
    ip -4 route show table all 2>/dev/null |
        awk '$1 ~ /^[0-9]/ { for (i = 2; i < NF; i++) if ($i == "dev") printf "%s %s|", $1, $(i + 1) }' || :
}

# ---- scripts/lib/facts.sh
# Facts about a host, one "NAME=VALUE" per line.

# Print a fact.
#   fact NAME VALUE
fact() {
    printf '%s=%s\n' "$1" "$2"
}

# ---- scripts/lib/lock.sh
# The lock of a host: flock(2) on WORKDIR/.ktrdr/lock, while the owner's shell runs. The file itself always
# exists. Its content names the owner.

# End the script with code 74 unless the owner with this note holds the lock.
#   require_lock WORKDIR NOTE
require_lock() {
    if ! grep -qF -e "$2" "$1/.ktrdr/lock" 2>/dev/null || flock -n -s "$1/.ktrdr/lock" true; then
        exit 74
    fi
}

# Print "free", or "held" and on the next line "PID NOTE".
#   show_lock WORKDIR
show_lock() {
    if [ ! -e "$1/.ktrdr/lock" ] || flock -n -s "$1/.ktrdr/lock" true; then
        echo free
    else
        echo held
        cat "$1/.ktrdr/lock"
    fi
}

# Return whether a process has the lock's file open as descriptor 9, as the shell of its owner has.
#   has_opened_lock WORKDIR PID
has_opened_lock() {
    [ "$(readlink "/proc/$2/fd/9")" = "$(readlink -f "$1/.ktrdr/lock")" ]
}

# ---- scripts/lib/history.sh
# History of a host's deploys, in WORKDIR/.ktrdr/history.jsonl, and what it refers to. It contains no secret.

# Print the archives of the kept configurations.
#   list_kept WORKDIR
list_kept() {
    ls "$1/.ktrdr/releases" 2>/dev/null || :
}

# Return whether a copy of the history has events that the history lacks. The share may not answer.
#   copy_is_ahead WORKDIR COPY
copy_is_ahead() {
    size=$(timeout -s KILL 5 stat -c %s "$2" 2>/dev/null) || return 1
    ! head -c "$size" "$1/.ktrdr/history.jsonl" 2>/dev/null | timeout -s KILL 5 cmp -s - "$2"
}

# Print the events, oldest first. With LINES, print only the last of them, and fewer actions, because these must
# not displace the deploys that a rollback needs.
#   read_history WORKDIR [LINES]
read_history() {
    history=$1/.ktrdr/history.jsonl
    if [ ! -e "$history" ]; then
        return 0
    elif [ -n "${2-}" ]; then
        awk -v lines="$2" '/"event":"action"/ { action[++actions] = $0; next } { deploy[++deploys] = $0 }
            END {
                for (i = deploys - lines + 1; i <= deploys; i++) if (i > 0) print deploy[i]
                for (i = actions - 19; i <= actions; i++) if (i > 0) print action[i]
            }' "$history"
    else
        cat "$history"
    fi
}

# ---- scripts/check.sh
OPEN_BY_HANDLE='# Open a directory by its handle, as an NFS server does with each file. Print "opened", or the error, or "unknown"
# if only root can tell. Every Debian and Ubuntu has perl (perl-base), which makes system calls without a compiler.
#
# Usage: perl open_by_handle.pl DIRECTORY
use strict;
use Config;

my %calls = (x86_64 => [303, 304], aarch64 => [264, 265]);
my ($name_to_handle_at, $open_by_handle_at) = @{$calls{(split /-/, $Config{archname})[0]} || []};
# struct file_handle: size, type and bytes of the handle.
my ($handle, $mount_id) = (pack(q(Ii a128), 128, 0, q()), pack(q(i), 0));

sub try_it {
    return q(unknown) unless $open_by_handle_at;
    my ($capabilities, $users) = map { open my $file, q(<), "/proc/self/$_"; join q(), <$file> } qw(status uid_map);
    # Without CAP_DAC_READ_SEARCH, kernels from 6.11 on reject the bad descriptor first, if nothing forbids the call.
    if ($capabilities =~ /^CapEff:.*([0-9a-f])$/m && !(hex($1) & 4)) {
        syscall($open_by_handle_at, -1, $handle, 0);
        return $!{EBADF} && $users =~ /^\s*0\s+0\s/ ? q(opened) : q(unknown);
    }
    open my $directory, q(<), $ARGV[0] or return $!;
    syscall($name_to_handle_at, -100, $ARGV[0], $handle, $mount_id, 0) == 0 or return $!;
    # Without O_DIRECTORY, which newer kernels allow to more callers.
    return syscall($open_by_handle_at, fileno($directory), $handle, 0) < 0 ? $! : q(opened);
}

print try_it(), "\n";'

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

run() {
    main \
        --workdir /opt/ktrdr-workers-b \
        --shared /mnt/ktrdr-shared \
        --shared-is-mounted yes \
        --container-uid 10001 \
        --resolve backend.lab.test
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"

# Step 3 of 7: fetch the release (at most 1800 s)
(
# Fetch a release: stage its files beside the current ones, pull its images, and print how the host differs
# from it, in sections. No service changes.
#
# Usage: fetch.sh OPTION VALUE...
#   the options of lib/stack.sh and of the stack's extension, and
#   --digests DIGESTS        files of the release, one "DIGEST  FILE" per line
#   --pin NAME[:TAG]@DIGEST  image that the tag must name, even if the registry's tag has moved
#   --image IMAGE            image that the host needs
#   --pull-always SERVICE    service with a tag that can move; its image is always pulled
#   --pull-missing SERVICE   service whose image is pulled if any image is missing
#   --history LINES          number of events of the history to print
set -euf

# ---- scripts/lib/output.sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/hooks.sh
# Hooks for the extensions of a stack. These functions do nothing. An extension follows them in the script
# that is sent, and redefines those that it needs.

# Set an option that only the extension knows.
#   stack_option OPTION VALUE
stack_option() { refuse_option "$1"; }

# Fail if the host cannot use the secrets, and change nothing.
inspect_secrets() { :; }

# Export the variables of Compose that depend on the secrets, and change nothing.
export_secret_settings() { :; }

# Export the same variables with their values in the current containers, if the secrets are unknown.
export_deployed_secret_settings() { :; }

# Export the secrets as the containers have them, after a restart of the host in mid-deploy. Fail if that cannot
# be done, as with files in memory, which are gone.
recall_secrets() { return 1; }

# Deliver and rotate secrets, before and after Compose changes the services. A hook that could not finish
# sets $incomplete, and the next deploy repeats everything.
before_up() { :; }
after_up() { :; }

# Print the name of each rotated secret on a line.
report_secrets() { :; }

# Remove the secrets in memory of a stack that is removed.
remove_secrets() { :; }

# ---- scripts/lib/stack.sh
# The stack that a script works on, and Compose's command line for it. Needs: output.sh, hooks.sh
#
# Options of each script that works on a stack:
#   --project NAME        Compose project of the stack
#   --workdir DIRECTORY   directory of its configuration, and base of relative paths in it
#   --compose-file FILE   compose file of the release; the first, then those that override it
#   --env-file FILE       file with its settings
#   --profile PROFILE     selected profile
#   --service SERVICE     service that the script works on
#   --only SERVICE        the only service to deploy
#   --dependency SERVICE  service that the only one depends on
#   --surplus SERVICE     service to remove
#   --managed-directory DIRECTORY  directory in which files that are not in the release are removed
#   --secrets-delivery env|tmpfs   delivery of secrets to its containers
#   --secrets-directory DIRECTORY  directory of their secrets in the host's memory, with tmpfs
#   --secrets-image IMAGE          image with a shell, which the host has once images are pulled
#   --further-secret NAME          secret variable of the inventory, which our own services have
# An option may be left out, and repeated for several values.

newline='
'
project='' workdir='' compose_files='' env_file='' profiles=''
services='' only='' dependencies='' surplus='' managed_directories=''
secrets_delivery=env secrets_directory='' secrets_image='' further_secrets=''

# Set one of these options, or pass it to the hook stack_option.
#   common_option OPTION VALUE
common_option() {
    case $1 in
        --project) project=$2 ;;
        --workdir) workdir=$2 ;;
        # In reverse order, because `compose` puts each before the others.
        --compose-file) compose_files="$2 $compose_files" ;;
        --env-file) env_file=$2 ;;
        --profile) profiles="$2 $profiles" ;;
        --service) services="$services $2" ;;
        --only) only=$2 ;;
        --dependency) dependencies="$dependencies $2" ;;
        --surplus) surplus="$surplus $2" ;;
        --managed-directory) managed_directories="$managed_directories $2" ;;
        --secrets-delivery) secrets_delivery=$2 ;;
        --secrets-directory) secrets_directory=$2 ;;
        --secrets-image) secrets_image=$2 ;;
        --further-secret) further_secrets="$further_secrets $2" ;;
        *) stack_option "$1" "$2" ;;
    esac
}

# Return whether the script works on a service.
#   has_service SERVICE
has_service() {
    case " $services " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# Return whether containers read secrets from files in memory.
secrets_are_in_memory() {
    [ "$secrets_delivery" = tmpfs ]
}

# Run Compose on the stack with the files in $release, which are staged or in their place.
#   compose COMMAND...
compose() {
    for profile in $profiles; do set -- --profile "$profile" "$@"; done
    set -- --env-file "$release/$env_file" "$@"
    for file in $compose_files; do set -- -f "$release/$file" "$@"; done
    docker compose -p "$project" --project-directory "$workdir" "$@"
}

# Print "SERVICE HASH" for each service, with the hash of its configuration.
print_hashes() {
    compose config --hash '*'
}

# ---- scripts/lib/release_files.sh
# Files of a release. Needs: stack.sh

# Print the archive of the release. A script that is sent redefines this function. If the script file is run
# by hand, the archive comes on standard input.
payload() { cat; }

# Run a command with each file in a managed directory that is not in the release.
#   each_obsolete_file COMMAND FILE...
each_obsolete_file() {
    obsolete_file_command=$1
    shift
    released=$newline
    for file; do released=$released$file$newline; done
    for directory in $managed_directories; do
        [ ! -d "$workdir/$directory" ] || (cd "$workdir" && find "$directory" -type f)
    done | while IFS= read -r file; do
        case $released in
            *"$newline$file$newline"*) ;;
            *) "$obsolete_file_command" "$file" ;;
        esac
    done
}

# ---- scripts/lib/images.sh
# Images of a host. Needs: containers.sh, whose list_containers sets $containers

# Id, kind and platform, and what is printed of an image. `index` reads fields that older programs of Docker
# do not know.
IMAGE_FORMAT='{{.Id}} {{with index . "Descriptor"}}{{index . "mediaType"}}{{else}}-{{end}} {{.Os}}/{{.Architecture}}{{with index . "Variant"}}/{{.}}{{end}} {"id":{{json .Id}},"digests":{{json .RepoDigests}},"descriptor":{{json (index . "Descriptor")}}}'

# Print "NAME MANIFEST JSON" for each of the images that the host has. Docker answers in the order of the
# names, unless one is missing.
#   inspect_images NAME...
inspect_images() {
    if answers=$(query_images "$@"); then
        print_images "$answers" "$@"
    else
        for image; do
            { ! answers=$(query_images "$image") || print_images "$answers" "$image"; } &
        done
        wait
    fi
}

# Print Docker's answers, and fail if the host lacks an image.
#   query_images NAME...
query_images() {
    docker image inspect --format "$IMAGE_FORMAT" "$@" 2>/dev/null
}

# Print answers with the names that they belong to. MANIFEST is the platform's manifest of an index, unless a
# listed container runs it and thus shows it. Engines before 28.1 do not tell it.
#   print_images ANSWERS NAME...
print_images() {
    answers=$1
    shift
    printf '%s\n' "$answers" | while [ "$#" -gt 0 ] && read -r id kind platform shown; do
        manifest=-
        case $kind in
            *index* | *manifest.list*)
                case ${containers-} in
                    *"\"image\":\"$id\",\"manifest\":{"*) ;;
                    *)
                        manifest=$(
                            docker image inspect --platform "$platform" --format '{{.Id}}' "$1" 2>/dev/null
                        ) || manifest=-
                        ;;
                esac
                ;;
        esac
        printf '%s %s %s\n' "$1" "$manifest" "$shown"
        shift
    done
}

# ---- scripts/lib/pin.sh
# Tags that refer to recorded images.

# Make a tag refer to the image with a digest, even if the registry's tag has moved. Compose pulls the image,
# because not every Docker CLI logs in with DOCKER_AUTH_CONFIG.
#   pin_image PROJECT NAME[:TAG] DIGEST
pin_image() {
    name=$2
    # A colon in front of a slash begins a port.
    case ${2##*/} in *:*) name=${2%:*} ;; esac
    pinned=$name@$3
    if ! docker image inspect "$pinned" >/dev/null 2>&1; then
        # Without a tag, an image in containerd's store has no name at all, but its digest finds it.
        if docker image inspect "$3" >/dev/null 2>&1; then
            pinned=$3
        else
            printf 'services: {pinned: {image: "%s"}}\n' "$pinned" |
                docker compose -p "$1-pin" -f - pull --quiet
        fi
    fi
    docker tag "$pinned" "$2"
}

# ---- scripts/lib/project.sh
# Containers of a Compose project.

# List containers as "docker ps" does, without those that Compose created for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/containers.sh
# Queries of containers and of the services in them. Needs: project.sh

# One JSON object per container with the manifest that it runs in containerd's image store, without the whole configuration, which contains the environment.
CONTAINER_FORMAT='{"id":{{json .Id}},"image":{{json .Image}},"manifest":{{json (index . "ImageManifestDescriptor")}},"name":{{json .Config.Image}},"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},"created":{{json .Created}}}'

# Print a JSON object for each container of a project, and set $containers to them.
#   list_containers PROJECT
list_containers() {
    ids=$(project_ps "$1" --all --quiet --no-trunc)
    containers=
    # A container may disappear between the two commands. The others are printed all the same.
    [ -z "$ids" ] || containers=$(docker inspect --format "$CONTAINER_FORMAT" $ids 2>/dev/null) || :
    [ -z "$containers" ] || printf '%s\n' "$containers"
}

# Return whether list_containers has found a container of one of the services. This avoids a start of
# Docker's program, which takes as long as the rest of the script.
#   any_is_listed SERVICE...
any_is_listed() {
    for service; do
        case $containers in
            *"\"com.docker.compose.service\":\"$service\""*) return 0 ;;
        esac
    done
    return 1
}

# Print the names of a project's volumes if one of the services has no container, with which its volumes may
# have been lost. Containers keep theirs.
#   list_volumes PROJECT SERVICE...
list_volumes() {
    volumes_of=$1
    shift
    for service; do
        any_is_listed "$service" || {
            docker volume ls --quiet --filter "name=^${volumes_of}_"
            return
        }
    done
}

# Print the health document of a service on one line. This is a hook, which an extension defines.
#   ask_service CONTAINER
ask_service() { :; }

# Print "SERVICE DOCUMENT" for each of the services that is healthy. The questions run in parallel, because
# each starts a program in a container. Each line is written by one printf, so that lines do not mix.
#   ask_services PROJECT SERVICE...
ask_services() {
    ask_project=$1
    shift
    [ "$#" -gt 0 ] || return 0
    project_ps "$ask_project" --format '{{.ID}} {{.Label "com.docker.compose.service"}}' \
        --filter health=healthy | {
        while read -r container service; do
            for asked; do
                [ "$service" != "$asked" ] ||
                    printf '%s %s\n' "$service" "$(ask_service "$container" || :)" &
            done
        done
        wait
    }
}

# ---- scripts/lib/history.sh
# History of a host's deploys, in WORKDIR/.ktrdr/history.jsonl, and what it refers to. It contains no secret.

# Print the archives of the kept configurations.
#   list_kept WORKDIR
list_kept() {
    ls "$1/.ktrdr/releases" 2>/dev/null || :
}

# Return whether a copy of the history has events that the history lacks. The share may not answer.
#   copy_is_ahead WORKDIR COPY
copy_is_ahead() {
    size=$(timeout -s KILL 5 stat -c %s "$2" 2>/dev/null) || return 1
    ! head -c "$size" "$1/.ktrdr/history.jsonl" 2>/dev/null | timeout -s KILL 5 cmp -s - "$2"
}

# Print the events, oldest first. With LINES, print only the last of them, and fewer actions, because these must
# not displace the deploys that a rollback needs.
#   read_history WORKDIR [LINES]
read_history() {
    history=$1/.ktrdr/history.jsonl
    if [ ! -e "$history" ]; then
        return 0
    elif [ -n "${2-}" ]; then
        awk -v lines="$2" '/"event":"action"/ { action[++actions] = $0; next } { deploy[++deploys] = $0 }
            END {
                for (i = deploys - lines + 1; i <= deploys; i++) if (i > 0) print deploy[i]
                for (i = actions - 19; i <= actions; i++) if (i > 0) print action[i]
            }' "$history"
    else
        cat "$history"
    fi
}

# ---- scripts/fetch.sh
# Set $release to a directory with all files of the release: the work directory if it has them already, or
# else the staging directory, into which the payload is unpacked. Staged files are removed when the script
# ends, unless keep_staged is called.
#   stage_release DIGESTS
# `sha256sum -c` reads DIGESTS: one "DIGEST  FILE" per line.
stage_release() {
    umask 022
    staging=$workdir/.ktrdr-staging
    # An interrupted deploy may have left it behind.
    [ ! -e "$staging" ] || rm -rf "$staging"
    release=$workdir
    if ! (cd "$workdir" && exec sha256sum -c) >/dev/null 2>&1 <<END
$1
END
    then
        release=$staging
        # At a signal, dash runs the trap for EXIT only if the signal has a trap of its own.
        trap 'exit 143' TERM
        trap 'rm -rf "$staging"' EXIT
        mkdir -p "$staging"
        payload | tar -xzf - -C "$staging"
    fi
}

# Keep the staged files for apply.sh.
keep_staged() {
    trap - EXIT
}

# Pull images: those with a tag that can move always, the others only if one is missing. Set $found_images to
# Docker's answers if none was missing.
pull_images() {
    [ -z "$pull_always" ] || compose pull --policy always $pull_always
    found_images=
    if [ -n "$pull_missing" ]; then
        found_images=$(query_images $images) || {
            found_images=
            compose pull --policy missing $pull_missing
        }
    fi
}

# Print the files that will change: "+ FILE" for new content, "- FILE" for a removed file.
#   list_changes FILE...
list_changes() {
    if [ -d "$workdir/.ktrdr-staging" ]; then
        for file; do
            cmp -s "$workdir/.ktrdr-staging/$file" "$workdir/$file" || printf '+ %s\n' "$file"
        done
    fi
    each_obsolete_file print_removal "$@"
}

# Print a removed file.
#   print_removal FILE
print_removal() {
    printf -- '- %s\n' "$1"
}

# Print the files that will change, and keep the staged files if there are any.
#   print_changes FILE...
print_changes() {
    changes=$(list_changes "$@")
    if [ -n "$changes" ]; then
        printf '%s\n' "$changes"
        keep_staged
    fi
}

main() {
    digests='' pins='' images='' pull_always='' pull_missing='' history_lines=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --digests) digests=$2 ;;
            --pin) pins="$pins $2" ;;
            --image) images="$images $2" ;;
            --pull-always) pull_always="$pull_always $2" ;;
            --pull-missing) pull_missing="$pull_missing $2" ;;
            --history) history_lines=$2 ;;
            *) common_option "$1" "$2" ;;
        esac
        shift 2
    done
    section stage
    stage_release "$digests"
    section pull
    for pin in $pins; do pin_image "$project" "${pin%@*}" "${pin#*@}"; done
    pull_images
    section unfinished
    [ ! -e "$workdir/.ktrdr-unfinished" ] || echo unfinished
    inspect_secrets
    export_secret_settings
    section hashes
    print_hashes
    section files
    IFS=$newline
    for line in $digests; do set -- "$@" "${line#*  }"; done
    unset IFS
    print_changes "$@"
    section history
    read_history "$workdir" "$history_lines"
    section kept
    list_kept "$workdir"
    # Docker's own health checks have printed the health documents of the services.
    section clock
    date +%s
    section containers
    list_containers "$project"
    section volumes
    list_volumes "$project" $services
    section images
    if [ -n "$found_images" ]; then
        print_images "$found_images" $images
    else
        inspect_images $images
    fi
    if [ -n "$surplus" ]; then
        section answers
        # The operator confirms the removal of surplus services that run operations.
        ! any_is_listed $surplus || ask_services "$project" $surplus
    fi
}

# ---- homelab/scripts/service_health.sh
# Health documents of KTRDR's services: extension of the scripts that ask services.

CONTAINER_HEALTH_PY='"""Print the health document of the server in this container, on one line.

Inside its container, the server responds even if the host does not publish its port, and the host
needs no further program. With HTTP/1.0, the response ends with the connection.
"""

import os
import socket
import sys

worker = os.environ.get("WORKER_PORT")
path = "/health" if worker else "/api/v1/health"
with socket.create_connection(("127.0.0.1", int(worker or 8000)), 5) as server:
    server.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = server.makefile("rb").read().decode("utf-8", "replace")
sys.stdout.write(" ".join(answer.partition("\r\n\r\n")[2].split()) + "\n")'

ask_service() {
    docker exec "$1" python3 -I -S -c "$CONTAINER_HEALTH_PY" 2>/dev/null </dev/null
}


# ---- homelab/scripts/worker_secrets.sh
# Secrets of the workers: extension of fetch.sh, apply.sh and diff.sh. It changes nothing on the host.

# ---- scripts/lib/fingerprints.sh
# Fingerprints of secrets that are delivered as files in memory (see memory_secrets.sh). Containers have the
# fingerprint of their secrets as a label, so that Compose replaces only the containers whose secrets have
# changed. A fingerprint depends on a random key, which is beside the secrets in memory and on no disk:
# without the key, a fingerprint reveals nothing. Needs: stack.sh

# Run a command with the files of the further secrets as its last arguments: pairs of name and content. A file
# has the name of its variable in lower case.
#   with_further_files COMMAND [ARGUMENT...]
with_further_files() {
    for variable in $further_secrets; do
        set -- "$@" "$(printf %s "$variable" | tr '[:upper:]' '[:lower:]')"
        eval "set -- \"\$@\" \"\${$variable-}\""
    done
    "$@"
}

# Print the fingerprint of a consumer's secrets, and change nothing. If the key or a file is missing, print
# "missing", which no container has.
#   print_fingerprint CONSUMER [FILE VALUE]...
print_fingerprint() {
    consumer_directory=$secrets_directory/$1
    shift
    values=$#
    # Replace the pairs with the values in the same order.
    while [ "$values" -gt 0 ]; do
        if [ ! -e "$secrets_directory/key" ] || [ ! -e "$consumer_directory/$1" ]; then
            echo missing
            return 0
        fi
        set -- "$@" "$2"
        shift 2
        values=$((values - 2))
    done
    secrets_key=
    read -r secrets_key 2>/dev/null <"$secrets_directory/key" || :
    for value; do
        printf '%s' "$secrets_key$value" | sha256sum
    done | sha256sum | cut -c 1-32
}

# Print the fingerprint in the label of a consumer's containers.
#   print_deployed_fingerprint CONSUMER
print_deployed_fingerprint() {
    docker ps --all \
        --filter "label=com.docker.compose.project=$project" \
        --filter "label=place.mynerd.ktrdr.secrets=$1" \
        --format '{{.Label "place.mynerd.ktrdr.secrets-fingerprint"}}' | tail -n 1
}

# ---- scripts/lib/container_environment.sh
# Environment of a stack's containers. Needs: stack.sh

# Set $environment to the variables of a container, between marks that no value contains.
#   read_environment CONTAINER
read_environment() {
    [ -n "${mark-}" ] || read -r mark </proc/sys/kernel/random/uuid
    environment=$(
        docker container inspect --format "{{range .Config.Env}}$mark{{.}}{{end}}$mark" "$1" 2>/dev/null || :
    )
}

# Set $value to the value of a variable in $environment. If the container reads it from a file, read this
# file in the host's memory or, if only root may do that, in the backend's container.
#   read_variable NAME
read_variable() {
    case $environment in
        *"$mark$1="*)
            value=${environment#*"$mark$1="}
            value=${value%%"$mark"*}
            ;;
        *"$mark$1_FILE="*)
            read_variable "$1_FILE"
            value=$(
                { cat "$secrets_directory/backend/${value##*/}" ||
                    docker exec "$project-backend-1" cat "$value" || :; } 2>/dev/null
                # Protect line ends at the end, which a substitution removes.
                echo x
            )
            value=${value%x}
            ;;
        *) value= ;;
    esac
}

# Export variables of $environment under their names.
#   export_variables NAME...
export_variables() {
    for variable; do
        read_variable "$variable"
        export "$variable=$value"
    done
}

# ---- homelab/scripts/worker_secrets.sh
recall_secrets() {
    ! secrets_are_in_memory || return 1
    container=$(project_ps "$project" --all --format '{{.Names}}' | head -n 1)
    read_environment "$container"
    export_variables DB_USER DB_PASSWORD WORKER_TOKEN $further_secrets
    [ -n "$DB_PASSWORD" ]
}

# Run a command with the files of a worker in memory as arguments: pairs of name and content.
#   with_worker_files COMMAND [ARGUMENT...]
with_worker_files() {
    with_further_files "$@" db_password "${DB_PASSWORD-}" worker_token "${WORKER_TOKEN-}"
}

export_secret_settings() {
    secrets_are_in_memory || return 0
    WORKER_SECRETS=$(with_worker_files print_fingerprint worker)
    export WORKER_SECRETS
}

export_deployed_secret_settings() {
    secrets_are_in_memory || return 0
    WORKER_SECRETS=$(print_deployed_fingerprint worker)
    export WORKER_SECRETS
}

payload() {
    base64 -d <<'-- end of payload --'
H4sIAAAAAAACA+2XQW+bMBSAOedXoGzaYRoJYAgS0g45sKha2kxRtR2mCrngJNYCjmwnW1Tx3/ug
WZOySuTAmLS872Jk8LMR/p4fA5bvBomQzPh72MDI86oWqLe2TdzjddUfeCPbMG2jA7ZKUwlTGpfJ
G1MxrXm+VL3pbBJPo6/R9OPVzadZz0AugEHp/08hfzCp/pn/TvDSf8d23QD97wKU/rJJRQLqW4nI
NkKxqhIY7LN1p/4Tp3b+Oy5xffS/C3qKyR1PmAp7ppneh+YDz+iShWZf84yphK7Z8PkK7rv9Ah68
p7Br8rQcY5qHAW8frq7Hkyi+GV9HofWrCH933I4nobUvqmdTtoFxKhY5zFRNl4g85ZqXHYelxCtG
13q1L8ohGykypldsq06WVnYOT+7sCKwKXW7B/0Ml0G4KaPI/IH7NfwIVAPrfuf+l1popbT1tA8t5
Ifi7qj3Pc6gquRR5xnIN3n6bzT9H8/jLbH4L9vqQ8assoiXlOfx6HKd7Vvx91X5oiuP3i+KVdbt/
BoJsseBreE3ze5XKLPeuMbr3FL2+zJaij15fOzkjOmmOHpTRz/j+mci5FhJeb7iUdEFzOkyppkps
JWyKdvJAY/3v2jX/PX/koP+d5P/jx4btdYen6IVx4v+xoGr5D6DZf1I//22PoP9doBJJNyyGKnzB
l5gCEARBEARBEARBEARB/jseAZFB1fkAKAAA
-- end of payload --
}

run() {
    export IMAGE_TAG=sha-abc1234
    export IMAGE_NAME=ghcr.io/ktrdr/ktrdr-backend
    export SHARED_HOST_PATH=/mnt/ktrdr-shared
    export WORKER_HOSTNAME=workers-b.lab.test
    export WORKER_BIND_ADDRESS=0.0.0.0
    export KTRDR_API_URL=http://backend.lab.test:8000
    export DB_HOST=backend.lab.test
    export DB_PORT=5432
    export OTLP_ENDPOINT=http://backend.lab.test:4317
    export DB_USER="${DB_USER:?}"
    export DB_PASSWORD="${DB_PASSWORD:?}"
    export WORKER_TOKEN="${WORKER_TOKEN:?}"
    export DOCKER_AUTH_CONFIG="${DOCKER_AUTH_CONFIG:?}"
    main \
        --project ktrdr-workers \
        --workdir /opt/ktrdr-workers-b \
        --compose-file docker-compose.workers.yml \
        --env-file .env.workers \
        --profile scale-2 \
        --service backtest-worker-1 \
        --service training-worker-1 \
        --service backtest-worker-2 \
        --service training-worker-2 \
        --surplus backtest-worker-3 \
        --managed-directory deploy/node \
        --managed-directory deploy/fields \
        --secrets-delivery env \
        --secrets-directory /run/ktrdr/ktrdr-workers \
        --secrets-image ghcr.io/ktrdr/ktrdr-backend:sha-abc1234 \
        --digests 'ec9c994ecec30d13f5b663fc204143d76d92d4e99ae74c1200ff13aa7934f260  .env.core
87ff8c60b2aeeba2403f78466f44615c143c55fa616afac198be713b32164fd0  .env.workers
46fd0db324fa106d843ad30ce68562a18c3d9d8e18818b3b40557d71406cdb13  docker-compose.core.yml
ba231a090401686dd30382125f1fd46345191295dc1571d2d005f6b58a6e8456  docker-compose.workers.yml
52c419c59ae0d599bddc0ce4ddd24577e63d049bd4e003d31da19cdce1ac190b  monitoring/grafana/datasources.yml
95043f40c52ac1899b3e3da37a5c0facd1095a5a84161d02a47f158a6f44e633  monitoring/prometheus.yml' \
        --image ghcr.io/ktrdr/ktrdr-backend:sha-abc1234 \
        --pull-missing backtest-worker-1 \
        --pull-missing training-worker-1 \
        --pull-missing backtest-worker-2 \
        --pull-missing training-worker-2 \
        --history 200
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"

# Step 4 of 7: start a test container (at most 60 s)
(
# Start a container that does nothing, and remove it. Docker answers queries even if its runtime starts nothing.
#
# Usage: start_container.sh NAME IMAGE...
# Uses the first IMAGE that the host has, or else any image, and no network. Prints "started" or "no image". Fails
# with Docker's exit code and error if the container does not start.
set -eu

main() {
    name=$1
    shift
    image=$(docker image inspect --format '{{.Id}}' "$@" 2>/dev/null | head -n 1)
    [ -n "$image" ] || image=$(docker image ls --all --quiet --no-trunc | head -n 1)
    if [ -z "$image" ]; then
        echo 'no image'
        return 0
    fi
    for attempt in first second; do
        code=0
        answer=$(
            docker run --rm --name "$name" --pull never --network none --log-driver none --read-only \
                --cap-drop ALL --security-opt no-new-privileges --entrypoint true "$image" 2>&1
        ) || code=$?
        case $attempt$answer in
            first*'is already in use'*)
                # Another command uses this name, or was cut off and has left its container behind.
                sleep 2
                docker rm --force --volumes "$name" >/dev/null 2>&1 || :
                ;;
            *) break ;;
        esac
    done
    case $code$answer in
        # If the image has no such program, the runtime fails as late as it can.
        0* | *'exec: "true":'*) echo started ;;
        *)
            # Advice to read the manual comes last.
            printf '%s\n' "$answer" | sed -e 's/^docker: //' -e '/docker run --help/d' >&2
            return "$code"
            ;;
    esac
}

run() {
    main ktrdr-workers-test ghcr.io/ktrdr/ktrdr-backend:sha-abc1234
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"

# Step 5 of 7: apply (at most 600 s)
(
# Hand a deploy over to the host: start its supervisor, which outlives this connection, and print the output of
# the release's application. End with its exit code.
#
# Usage: start_deploy.sh WORKDIR PROJECT NOTE ID EVENT
# NOTE is that of the lock's owner, EVENT is appended to the history before anything changes. The program of the
# supervisor (supervise.sh) contains no secret: secrets reach it as exported variables. Fails with 74 if the lock
# was lost.
set -euf

# ---- scripts/lib/output.sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/lock.sh
# The lock of a host: flock(2) on WORKDIR/.ktrdr/lock, while the owner's shell runs. The file itself always
# exists. Its content names the owner.

# End the script with code 74 unless the owner with this note holds the lock.
#   require_lock WORKDIR NOTE
require_lock() {
    if ! grep -qF -e "$2" "$1/.ktrdr/lock" 2>/dev/null || flock -n -s "$1/.ktrdr/lock" true; then
        exit 74
    fi
}

# Print "free", or "held" and on the next line "PID NOTE".
#   show_lock WORKDIR
show_lock() {
    if [ ! -e "$1/.ktrdr/lock" ] || flock -n -s "$1/.ktrdr/lock" true; then
        echo free
    else
        echo held
        cat "$1/.ktrdr/lock"
    fi
}

# Return whether a process has the lock's file open as descriptor 9, as the shell of its owner has.
#   has_opened_lock WORKDIR PID
has_opened_lock() {
    [ "$(readlink "/proc/$2/fd/9")" = "$(readlink -f "$1/.ktrdr/lock")" ]
}

# ---- scripts/lib/events.sh
# Events of a host's history: one line of JSON each, in WORKDIR/.ktrdr/history.jsonl. They contain no secret.
# Lines are only appended.

# Append events, after a line that an interruption may have cut short, and write them to the disk.
#   append_events WORKDIR EVENT...
append_events() {
    history=$1/.ktrdr/history.jsonl
    umask 022
    [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"
    shift
    # End an incomplete last line, so that the new one is separate.
    [ ! -s "$history" ] || [ -z "$(tail -c 1 "$history")" ] || echo >>"$history"
    printf '%s\n' "$@" >>"$history"
    flush "$history" "${history%/*}"
}

# Write files or directories to the disk now, as far as this host's sync can.
#   flush PATH...
flush() {
    sync "$@" 2>/dev/null || :
}

# ---- scripts/lib/supervision.sh
# A deploy in progress, in WORKDIR/.ktrdr/deploy: program.sh is the supervisor's program, `supervisor` contains
# its process id and the directory of its outputs, `phases` what it does, `stopped` the containers that stay so.
# undecided.ID becomes operator.ID or host.ID once one of them has decided the outcome. No file contains a secret.
# The output of Compose, which might, is in the host's memory.

# Decide the outcome of a deploy in progress, if nobody has decided it yet. Return whether this one has. A full
# disk still has room for a name.
#   decide WORKDIR ID operator|host
decide() {
    mv "$1/.ktrdr/deploy/undecided.$2" "$1/.ktrdr/deploy/$3.$2" 2>/dev/null
}

# Create a directory for outputs in memory, and print its name.
make_output_directory() {
    umask 077
    mktemp -d "$([ ! -d /dev/shm ] || echo /dev/shm/)ktrdr.XXXXXXXX"
}

# End the supervisor, if one runs, and forget its deploy: nothing goes on with it any more.
#   forget_deploy WORKDIR
forget_deploy() {
    if find_supervisor "$1"; then
        kill -s KILL -- "-$supervisor" 2>/dev/null || :
        while find_supervisor "$1"; do sleep 0.1; done
    fi
    rm -rf "$1/.ktrdr/deploy" ${output:+"$output"}
}

# Set $supervisor and $output, and return whether the supervisor runs. The system reuses process ids.
#   find_supervisor WORKDIR
find_supervisor() {
    supervisor='' output=''
    { read -r supervisor output <"$1/.ktrdr/deploy/supervisor"; } 2>/dev/null || return 1
    { tr '\0' ' ' <"/proc/$supervisor/cmdline"; } 2>/dev/null | grep -qF ".ktrdr/deploy/program.sh "
}

# Print what a process writes to NAME.out and NAME.err until NAME.code exists, and return that code. Return 70 if
# the supervisor ends before.
#   follow NAME SUPERVISOR
follow() {
    shown_out=0 shown_err=0
    while :; do
        state=running
        kill -0 "$2" 2>/dev/null || state=gone
        [ ! -e "$1.code" ] || state=ended
        print_new "$1.out" "$shown_out"
        shown_out=$size
        print_new "$1.err" "$shown_err" >&2
        shown_err=$size
        case $state in
            ended) return "$(cat "$1.code")" ;;
            gone) return 70 ;;
        esac
        sleep 0.1
    done
}

# Print the bytes of a file after the first ones, and set $size to its size.
#   print_new FILE SHOWN
print_new() {
    size=$({ wc -c <"$1"; } 2>/dev/null) || size=0
    [ "$size" -le "$2" ] || tail -c +"$(($2 + 1))" "$1" 2>/dev/null | head -c "$((size - $2))"
}

# Tell the operators what the supervisor does.
#   announce TEXT
announce() {
    printf '%s %s\n' "$(date +%s)" "$1" >>"$deploy/phases" || :
}

# ---- scripts/lib/recovery_unit.sh
# Unit of systemd that goes on with a deploy after a restart of the host. Needs: $RECOVERY_UNIT_FILE

# Print the unit of a stack, which runs as the user that deploys.
#   print_recovery_unit WORKDIR USER
print_recovery_unit() {
    printf '%s\n' "$RECOVERY_UNIT_FILE" | sed \
        -e "s#@user@#$2#" -e "s#@workdir@#$(printf %s "$1" | sed 's/[#&\\]/\\&/g; s/%/%%/g')#"
}

# ---- scripts/start_deploy.sh
RECOVERY_UNIT_FILE='# Written by `ktrdr deploy` or `ktrdr host prepare`.
[Unit]
Description=Go on with a deploy of KTRDR after a restart in the middle of it
ConditionPathExists=@workdir@/.ktrdr/deploy/program.sh
Wants=docker.service
After=docker.service

[Service]
User=@user@
WorkingDirectory=@workdir@
ExecStart=/bin/sh .ktrdr/deploy/program.sh resume

[Install]
WantedBy=multi-user.target'

# Have systemd go on with deploys at each start of the host. Without root rights, `ktrdr host prepare` has done it.
# The unit does nothing while no deploy is in progress.
enable_recovery() {
    unit=$project-recovery.service units=${KTRDR_ETC:-/etc}/systemd/system
    if [ -d "$units" ] && ! grep -qsxF -e "WorkingDirectory=$workdir" "$units/$unit"; then
        print_recovery_unit "$workdir" root >"$units/$unit"
        mkdir -p "$units/multi-user.target.wants"
        ln -sf "../$unit" "$units/multi-user.target.wants/$unit"
    fi
}

main() {
    workdir=$1 project=$2
    require_lock "$workdir" "$3"
    append_events "$workdir" "$5"
    forget_deploy "$workdir"
    deploy=$workdir/.ktrdr/deploy
    mkdir -p "$deploy"
    program >"$deploy/program.sh"
    : >"$deploy/undecided.$4"
    # They must survive a power failure.
    sync "$deploy/program.sh" "$deploy" "$workdir/.ktrdr" 2>/dev/null || :
    [ "$(id -u)" != 0 ] || enable_recovery || :
    output=$(make_output_directory)
    # Without a signal or an open file of the connection, its end does not end the supervisor.
    setsid sh "$deploy/program.sh" run "$output" </dev/null >/dev/null 2>&1 3<&- 4>&- &
    followed=$!
    # From now on, the supervisor holds the lock besides the session's shell.
    exec 9>&-
    code=0
    follow "$output/apply" "$followed" || code=$?
    [ "$code" != 70 ] || echo "the deploy's supervisor on the host has ended" >&2
    return "$code"
}

program() {
    cat <<'-- end of payload --'
# Supervise a deploy on its host: apply the release, and go back to the last good one unless the operator, or in
# a detached deploy the services' health, confirms it in time.
#
# Usage: supervise.sh run OUTPUT | apply|restore [recall] | resume [locked], each with OPTION VALUE...
#   run       supervise from the beginning; outputs go to the directory OUTPUT, in memory
#   apply     apply the release
#   restore   apply the former one; with "recall", both take the secrets from the containers
#   resume    go on after the supervisor was ended, as by a restart of the host; "locked" if the caller has the lock
# Options:
#   --workdir DIRECTORY, --project NAME   the stack
#   --id ID, --tag TAG             the deploy
#   --way-back TAG                 release to go back to; empty if there is none
#   --confirm-within SECONDS       time for the confirmation, after the release was applied
#   --healthy-within SECONDS       time for the services to become healthy
#   --detached yes|no              whether healthy services confirm the deploy
#   --recovery-note NOTE           note of the lock while the host goes back on its own
#   --ended EVENT                  end of the deploy, for the history; its outcome and duration are filled in
#   --back-begun EVENT, --back-ended EVENT   beginning and end of the rollback
#   --expect SERVICE, --expect-back SERVICE  services that must become healthy
# The frame of the program defines apply_new, keep_new and apply_old. They export their settings.
set -euf

# ---- scripts/lib/output.sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/hooks.sh
# Hooks for the extensions of a stack. These functions do nothing. An extension follows them in the script
# that is sent, and redefines those that it needs.

# Set an option that only the extension knows.
#   stack_option OPTION VALUE
stack_option() { refuse_option "$1"; }

# Fail if the host cannot use the secrets, and change nothing.
inspect_secrets() { :; }

# Export the variables of Compose that depend on the secrets, and change nothing.
export_secret_settings() { :; }

# Export the same variables with their values in the current containers, if the secrets are unknown.
export_deployed_secret_settings() { :; }

# Export the secrets as the containers have them, after a restart of the host in mid-deploy. Fail if that cannot
# be done, as with files in memory, which are gone.
recall_secrets() { return 1; }

# Deliver and rotate secrets, before and after Compose changes the services. A hook that could not finish
# sets $incomplete, and the next deploy repeats everything.
before_up() { :; }
after_up() { :; }

# Print the name of each rotated secret on a line.
report_secrets() { :; }

# Remove the secrets in memory of a stack that is removed.
remove_secrets() { :; }

# ---- scripts/lib/stack.sh
# The stack that a script works on, and Compose's command line for it. Needs: output.sh, hooks.sh
#
# Options of each script that works on a stack:
#   --project NAME        Compose project of the stack
#   --workdir DIRECTORY   directory of its configuration, and base of relative paths in it
#   --compose-file FILE   compose file of the release; the first, then those that override it
#   --env-file FILE       file with its settings
#   --profile PROFILE     selected profile
#   --service SERVICE     service that the script works on
#   --only SERVICE        the only service to deploy
#   --dependency SERVICE  service that the only one depends on
#   --surplus SERVICE     service to remove
#   --managed-directory DIRECTORY  directory in which files that are not in the release are removed
#   --secrets-delivery env|tmpfs   delivery of secrets to its containers
#   --secrets-directory DIRECTORY  directory of their secrets in the host's memory, with tmpfs
#   --secrets-image IMAGE          image with a shell, which the host has once images are pulled
#   --further-secret NAME          secret variable of the inventory, which our own services have
# An option may be left out, and repeated for several values.

newline='
'
project='' workdir='' compose_files='' env_file='' profiles=''
services='' only='' dependencies='' surplus='' managed_directories=''
secrets_delivery=env secrets_directory='' secrets_image='' further_secrets=''

# Set one of these options, or pass it to the hook stack_option.
#   common_option OPTION VALUE
common_option() {
    case $1 in
        --project) project=$2 ;;
        --workdir) workdir=$2 ;;
        # In reverse order, because `compose` puts each before the others.
        --compose-file) compose_files="$2 $compose_files" ;;
        --env-file) env_file=$2 ;;
        --profile) profiles="$2 $profiles" ;;
        --service) services="$services $2" ;;
        --only) only=$2 ;;
        --dependency) dependencies="$dependencies $2" ;;
        --surplus) surplus="$surplus $2" ;;
        --managed-directory) managed_directories="$managed_directories $2" ;;
        --secrets-delivery) secrets_delivery=$2 ;;
        --secrets-directory) secrets_directory=$2 ;;
        --secrets-image) secrets_image=$2 ;;
        --further-secret) further_secrets="$further_secrets $2" ;;
        *) stack_option "$1" "$2" ;;
    esac
}

# Return whether the script works on a service.
#   has_service SERVICE
has_service() {
    case " $services " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# Return whether containers read secrets from files in memory.
secrets_are_in_memory() {
    [ "$secrets_delivery" = tmpfs ]
}

# Run Compose on the stack with the files in $release, which are staged or in their place.
#   compose COMMAND...
compose() {
    for profile in $profiles; do set -- --profile "$profile" "$@"; done
    set -- --env-file "$release/$env_file" "$@"
    for file in $compose_files; do set -- -f "$release/$file" "$@"; done
    docker compose -p "$project" --project-directory "$workdir" "$@"
}

# Print "SERVICE HASH" for each service, with the hash of its configuration.
print_hashes() {
    compose config --hash '*'
}

# ---- scripts/lib/lock.sh
# The lock of a host: flock(2) on WORKDIR/.ktrdr/lock, while the owner's shell runs. The file itself always
# exists. Its content names the owner.

# End the script with code 74 unless the owner with this note holds the lock.
#   require_lock WORKDIR NOTE
require_lock() {
    if ! grep -qF -e "$2" "$1/.ktrdr/lock" 2>/dev/null || flock -n -s "$1/.ktrdr/lock" true; then
        exit 74
    fi
}

# Print "free", or "held" and on the next line "PID NOTE".
#   show_lock WORKDIR
show_lock() {
    if [ ! -e "$1/.ktrdr/lock" ] || flock -n -s "$1/.ktrdr/lock" true; then
        echo free
    else
        echo held
        cat "$1/.ktrdr/lock"
    fi
}

# Return whether a process has the lock's file open as descriptor 9, as the shell of its owner has.
#   has_opened_lock WORKDIR PID
has_opened_lock() {
    [ "$(readlink "/proc/$2/fd/9")" = "$(readlink -f "$1/.ktrdr/lock")" ]
}

# ---- scripts/lib/events.sh
# Events of a host's history: one line of JSON each, in WORKDIR/.ktrdr/history.jsonl. They contain no secret.
# Lines are only appended.

# Append events, after a line that an interruption may have cut short, and write them to the disk.
#   append_events WORKDIR EVENT...
append_events() {
    history=$1/.ktrdr/history.jsonl
    umask 022
    [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"
    shift
    # End an incomplete last line, so that the new one is separate.
    [ ! -s "$history" ] || [ -z "$(tail -c 1 "$history")" ] || echo >>"$history"
    printf '%s\n' "$@" >>"$history"
    flush "$history" "${history%/*}"
}

# Write files or directories to the disk now, as far as this host's sync can.
#   flush PATH...
flush() {
    sync "$@" 2>/dev/null || :
}

# ---- scripts/lib/release_files.sh
# Files of a release. Needs: stack.sh

# Print the archive of the release. A script that is sent redefines this function. If the script file is run
# by hand, the archive comes on standard input.
payload() { cat; }

# Run a command with each file in a managed directory that is not in the release.
#   each_obsolete_file COMMAND FILE...
each_obsolete_file() {
    obsolete_file_command=$1
    shift
    released=$newline
    for file; do released=$released$file$newline; done
    for directory in $managed_directories; do
        [ ! -d "$workdir/$directory" ] || (cd "$workdir" && find "$directory" -type f)
    done | while IFS= read -r file; do
        case $released in
            *"$newline$file$newline"*) ;;
            *) "$obsolete_file_command" "$file" ;;
        esac
    done
}

# ---- scripts/lib/pin.sh
# Tags that refer to recorded images.

# Make a tag refer to the image with a digest, even if the registry's tag has moved. Compose pulls the image,
# because not every Docker CLI logs in with DOCKER_AUTH_CONFIG.
#   pin_image PROJECT NAME[:TAG] DIGEST
pin_image() {
    name=$2
    # A colon in front of a slash begins a port.
    case ${2##*/} in *:*) name=${2%:*} ;; esac
    pinned=$name@$3
    if ! docker image inspect "$pinned" >/dev/null 2>&1; then
        # Without a tag, an image in containerd's store has no name at all, but its digest finds it.
        if docker image inspect "$3" >/dev/null 2>&1; then
            pinned=$3
        else
            printf 'services: {pinned: {image: "%s"}}\n' "$pinned" |
                docker compose -p "$1-pin" -f - pull --quiet
        fi
    fi
    docker tag "$pinned" "$2"
}

# ---- scripts/lib/project.sh
# Containers of a Compose project.

# List containers as "docker ps" does, without those that Compose created for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/recreation.sh
# Repair of a recreation that Compose did not finish. Needs: project.sh

# Finish or undo interrupted recreations. To recreate a container, Compose creates the new one under the name
# OLDID_NAME, stops and removes the old one, and renames the new one. If it is interrupted in between, the
# service stays stopped, and the container OLDID_NAME makes the next attempt fail. If both containers exist,
# remove the new one. If only the new one exists, rename it. With "start", start the remaining one.
#   finish_recreation PROJECT [start]
finish_recreation() {
    for name in $(project_ps "$1" --all --format "{{.Names}}"); do
        case $name in
            # Twelve characters of an id and an underscore stand before the name.
            [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]_*) ;;
            *) continue ;;
        esac
        if docker inspect "${name#*_}" >/dev/null 2>&1; then
            docker rm --force "$name"
        else
            docker rename "$name" "${name#*_}"
        fi
        # A container that cannot be started must not prevent the others from being changed.
        [ "${2-}" != start ] || docker start "${name#*_}" || :
    done
}

# ---- scripts/lib/recovery.sh
# Recovery of the services that an interrupted script has stopped. Needs: project.sh, recreation.sh

# Set $stopped_before to the containers that were stopped before anything changed, and that stay stopped. Only
# a record under the current lock counts.
#   read_stopped_before WORKDIR
read_stopped_before() {
    stopped_before=
    [ ! "$1/.ktrdr/stopped" -nt "$1/.ktrdr/lock" ] || stopped_before=$(cat "$1/.ktrdr/stopped") || :
}

# Start stopped containers until all have run in three queries in a row, because a container may stop only at
# the end of its grace period. Wait for Docker if it does not respond. Fail after SECONDS.
#   recover PROJECT SECONDS
recover() {
    end=$(($(date +%s) + $2))
    good_queries=0
    while [ "$(date +%s)" -lt "$end" ]; do
        if finish_recreation "$1" >/dev/null 2>&1 && stopped=$(list_stopped "$1" 2>/dev/null); then
            idle=
            for container in $stopped; do
                printf "%s\n" "$stopped_before" | grep -qxF "$container" || idle="$idle $container"
            done
            if [ -z "$idle" ]; then
                good_queries=$((good_queries + 1))
                [ "$good_queries" -lt 3 ] || return 0
            else
                good_queries=0
                docker start $idle >/dev/null 2>&1 || :
            fi
        fi
        sleep 1
    done
    return 1
}

# Print the ids of the containers of a project that do not run.
#   list_stopped PROJECT
list_stopped() {
    project_ps "$1" --all --quiet --filter status=exited --filter status=created
}

# ---- scripts/lib/kept_releases.sh
# Configurations that a host keeps, in WORKDIR/.ktrdr/releases.

# Write the files of the work directory to the archive of their configuration. An archive that is not empty is
# not replaced. Needs: events.sh
#   keep_configuration WORKDIR CONFIGURATION FILE...
keep_configuration() {
    archive=$1/.ktrdr/releases/$2.tar.gz
    directory=$1
    shift 2
    if [ ! -s "$archive" ]; then
        mkdir -p "$directory/.ktrdr/releases" &&
            tar -czf "$archive.partial" -C "$directory" "$@" &&
            flush "$archive.partial"
        mv -f "$archive.partial" "$archive"
    fi
}

# ---- scripts/lib/supervision.sh
# A deploy in progress, in WORKDIR/.ktrdr/deploy: program.sh is the supervisor's program, `supervisor` contains
# its process id and the directory of its outputs, `phases` what it does, `stopped` the containers that stay so.
# undecided.ID becomes operator.ID or host.ID once one of them has decided the outcome. No file contains a secret.
# The output of Compose, which might, is in the host's memory.

# Decide the outcome of a deploy in progress, if nobody has decided it yet. Return whether this one has. A full
# disk still has room for a name.
#   decide WORKDIR ID operator|host
decide() {
    mv "$1/.ktrdr/deploy/undecided.$2" "$1/.ktrdr/deploy/$3.$2" 2>/dev/null
}

# Create a directory for outputs in memory, and print its name.
make_output_directory() {
    umask 077
    mktemp -d "$([ ! -d /dev/shm ] || echo /dev/shm/)ktrdr.XXXXXXXX"
}

# End the supervisor, if one runs, and forget its deploy: nothing goes on with it any more.
#   forget_deploy WORKDIR
forget_deploy() {
    if find_supervisor "$1"; then
        kill -s KILL -- "-$supervisor" 2>/dev/null || :
        while find_supervisor "$1"; do sleep 0.1; done
    fi
    rm -rf "$1/.ktrdr/deploy" ${output:+"$output"}
}

# Set $supervisor and $output, and return whether the supervisor runs. The system reuses process ids.
#   find_supervisor WORKDIR
find_supervisor() {
    supervisor='' output=''
    { read -r supervisor output <"$1/.ktrdr/deploy/supervisor"; } 2>/dev/null || return 1
    { tr '\0' ' ' <"/proc/$supervisor/cmdline"; } 2>/dev/null | grep -qF ".ktrdr/deploy/program.sh "
}

# Print what a process writes to NAME.out and NAME.err until NAME.code exists, and return that code. Return 70 if
# the supervisor ends before.
#   follow NAME SUPERVISOR
follow() {
    shown_out=0 shown_err=0
    while :; do
        state=running
        kill -0 "$2" 2>/dev/null || state=gone
        [ ! -e "$1.code" ] || state=ended
        print_new "$1.out" "$shown_out"
        shown_out=$size
        print_new "$1.err" "$shown_err" >&2
        shown_err=$size
        case $state in
            ended) return "$(cat "$1.code")" ;;
            gone) return 70 ;;
        esac
        sleep 0.1
    done
}

# Print the bytes of a file after the first ones, and set $size to its size.
#   print_new FILE SHOWN
print_new() {
    size=$({ wc -c <"$1"; } 2>/dev/null) || size=0
    [ "$size" -le "$2" ] || tail -c +"$(($2 + 1))" "$1" 2>/dev/null | head -c "$((size - $2))"
}

# Tell the operators what the supervisor does.
#   announce TEXT
announce() {
    printf '%s %s\n' "$(date +%s)" "$1" >>"$deploy/phases" || :
}

# ---- scripts/lib/apply.sh
# Application of a release: move its files into the work directory, and let Compose change the services. Needs:
# output.sh, hooks.sh, stack.sh, release_files.sh, pin.sh, project.sh, recreation.sh

# Move the staged files that differ into the work directory, and remove obsolete ones. Each file is replaced
# in one move. Directories are not replaced, because containers mount them and would keep the old ones.
#   place_files FILE...
place_files() {
    staging=$workdir/.ktrdr-staging
    if [ -d "$staging" ]; then
        umask 022
        for file; do
            if ! cmp -s "$staging/$file" "$workdir/$file"; then
                mkdir -p "$(dirname "$workdir/$file")"
                mv -f "$staging/$file" "$workdir/$file"
            fi
        done
        rm -rf "$staging"
    fi
    each_obsolete_file remove_obsolete_file "$@"
}

# Remove a file from the work directory.
#   remove_obsolete_file FILE
remove_obsolete_file() {
    rm -f "$workdir/$1"
}

# Remove containers that never ran or whose last start failed, so that Compose recreates them. If Docker
# is stopped while it starts a container, a task with the container's id remains that makes each further
# start fail ("task ... already exists").
#   remove_unstartable SERVICE...
remove_unstartable() {
    idle=$(project_ps "$project" --all --quiet --filter status=exited --filter status=created)
    [ -n "$idle" ] || return 0
    docker inspect --format '{{.Id}} {{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{json .State.Error}}' $idle |
        while read -r container service state error; do
            for concerned; do
                if [ "$service" = "$concerned" ] && [ "$state $error" != 'exited ""' ]; then
                    docker rm --force "$container" >/dev/null
                fi
            done
        done
}

# Create, recreate or start the services that differ from the files. If only one service is deployed, the
# others stay unchanged, unless one of its dependencies does not run: then it could not start. No image is
# pulled here, because fetch.sh has pulled them and reports why a pull failed.
bring_up() {
    if [ -z "$only" ]; then
        compose up --detach --pull never --remove-orphans
    elif all_run "$dependencies"; then
        compose up --detach --pull never --no-deps "$only"
    else
        compose up --detach --pull never "$only"
    fi
}

# Return whether each of the services has a running container.
#   all_run SERVICES
all_run() {
    for service in $1; do
        [ -n "$(project_ps "$project" --quiet --filter "label=com.docker.compose.service=$service")" ] ||
            return 1
    done
}

# Stage a release that the host keeps, and get its images, which it usually has.
stage_kept_release() {
    release=$workdir/.ktrdr-staging
    rm -rf "$release"
    mkdir -p "$release"
    tar -xzf "$workdir/.ktrdr/releases/$kept.tar.gz" -C "$release"
    for pin in $pins; do pin_image "$project" "${pin%@*}" "${pin#*@}"; done
    compose pull --quiet --policy missing $services
}

# Apply the release that fetch.sh has staged, or one that the host keeps.
#   apply_release OPTION VALUE... -- FILE...
# The FILEs are all files of the release. The options are those of lib/stack.sh and of the stack's extension, and
#   --kept CONFIGURATION     name of the kept release's archive
#   --pin NAME[:TAG]@DIGEST  image that a tag must name
apply_release() {
    kept='' pins=''
    while [ "$1" != -- ]; do
        case $1 in
            --kept) kept=$2 ;;
            --pin) pins="$pins $2" ;;
            *) common_option "$1" "$2" ;;
        esac
        shift 2
    done
    shift
    [ -z "$recall" ] || recall_secrets
    [ -z "$kept" ] || stage_kept_release
    release=$workdir
    place_files "$@"
    finish_recreation "$project" start
    remove_unstartable $services $dependencies

    # If this deploy does not reach its end, the next one repeats all of this.
    unfinished=$workdir/.ktrdr-unfinished
    was_unfinished=
    [ ! -e "$unfinished" ] || was_unfinished=yes
    : >"$unfinished"
    incomplete=
    before_up
    bring_up
    after_up
    # If only one service was deployed, keep an older file, because it may concern the others.
    if [ -z "$incomplete" ] && { [ -z "$only" ] || [ -z "$was_unfinished" ]; }; then
        rm -f "$unfinished"
    fi
    section rotated
    report_secrets
    if [ -n "$surplus" ]; then
        # They may belong to profiles that are not selected.
        profiles='*'
        compose rm --stop --force $surplus
    fi
}

# ---- scripts/supervise.sh
# Run the release's application, then wait for the decision.
supervise() {
    trap request USR1
    # A session without the lock has started this. Acquire the lock when its owner has ended.
    has_opened_lock "$workdir" self || exec 9>>"$workdir/.ktrdr/lock"
    read -r owner _ <"$workdir/.ktrdr/lock"
    # What was stopped before stays stopped. Containers that never started were created by an interrupted deploy.
    stopped_before=$(project_ps "$project" --all --quiet --filter status=exited) || stopped_before=
    printf '%s\n' "$stopped_before" >"$deploy/stopped"
    printf '%s %s\n' "$$" "$output" >"$deploy/supervisor"
    # From now on, nothing that fails, as on a full disk, may end the supervisor.
    set +e
    now
    began=$seconds
    announce "apply $tag"
    [ -n "$requested" ] || run_part apply
    announce "wait until healthy"
    if [ "$detached" = no ]; then
        await_confirmation
    elif [ "$exit_code" != 0 ]; then
        reason="the release could not be applied"
    elif await_health "$expected"; then
        confirm
    else
        reason="not all services became healthy within $healthy_within s"
    fi
    [ -z "$requested" ] || reason="the deploy failed"
    decide "$workdir" "$id" host || exit 0
    trap '' USR1
    requested=
    go_back
}

# End what runs, and go back.
request() {
    requested=yes
    [ -z "$part" ] || kill -s TERM -- "-$part"
}

# Wait until the operator confirms the deploy, which ends this process, or set $reason.
await_confirmation() {
    now
    deadline=$((seconds + confirm_within))
    while [ -z "$requested" ]; do
        if ! has_opened_lock "$workdir" "$owner"; then
            reason="the connection of the operator ended before the deploy was confirmed"
            return
        elif now && [ "$seconds" -ge "$deadline" ]; then
            reason="the deploy was not confirmed within $confirm_within s"
            return
        fi
        sleep 1 &
        # A signal ends the wait.
        wait "$!"
    done
}

# Confirm a detached deploy.
confirm() {
    decide "$workdir" "$id" host || exit 0
    keep_new
    append_events "$workdir" "$(complete_event "$ended" deployed '' "$began")"
    conclude
}

# Go back to the last good release. Without one, start what the deploy has stopped; after a restart of the host,
# finish the deploy, because the database may have a password already that the other services do not.
go_back() {
    if ! has_opened_lock "$workdir" "$owner"; then
        flock 9
        printf '%s %s\n' "$$" "$recovery_note" >"$workdir/.ktrdr/lock"
    fi
    outcome=failed
    if [ -n "$way_back" ]; then
        announce "go back to $way_back: $reason"
        now
        back_began=$seconds
        append_events "$workdir" "$(printf '%s\n' "$back_begun" |
            sed "s/\"at\":\"[^\"]*\"/\"at\":\"$(date -u +%Y-%m-%dT%H:%M:%S.000+00:00)\"/")"
        restore restore "$expected_back"
        problem=
        [ "$outcome" = deployed ] || problem="the host could not go back"
        append_events "$workdir" "$(complete_event "$back_ended" "$outcome" "$problem" "$back_began")"
    elif [ -n "$recall" ]; then
        announce "finish the deploy of $tag: $reason"
        restore apply "$expected"
    else
        announce "start what was stopped: $reason"
    fi
    # Something must run.
    [ "$outcome" = deployed ] || recover "$project" 180
    has_opened_lock "$workdir" "$owner" ||
        append_events "$workdir" "$(complete_event "$ended" failed "$reason" "$began")"
    conclude
}

# Apply a release, wait until it is healthy, and set $outcome. Try again if Docker stops meanwhile.
#   restore apply|restore SERVICES
restore() {
    for _ in 1 2 3; do
        wait_for_docker
        run_part "$1" ${recall:+"$recall"}
        if [ "$exit_code" = 0 ]; then
            ! await_health "$2" || outcome=deployed
            return
        fi
        sleep 2
    done
}

# Go on after the end of the supervisor.
#   resume [locked]
resume() {
    if [ -z "$1" ]; then
        exec 9>>"$workdir/.ktrdr/lock"
        flock 9
    fi
    # Another deploy may have come first.
    [ -e "$deploy/undecided.$id" ] || [ -e "$deploy/host.$id" ] || exit 0
    set +e
    if is_last_deploy; then
        owner=none output=$(make_output_directory) recall=recall
        stopped_before=$(cat "$deploy/stopped")
        printf '%s %s\n' "$$" "$output" >"$deploy/supervisor"
        wait_for_docker
        finish_recreation "$project" start
        reason="the host was restarted, or the deploy's supervisor ended, in mid-deploy"
        now
        began=$seconds
        go_back
    fi
    conclude
}

# Return whether the deploy, or the rollback from it, has not ended, and no other deploy has begun.
is_last_deploy() {
    case $(grep -E '"event":"(begun|ended)"' "$workdir/.ktrdr/history.jsonl" | tail -n 1) in
        *'"event":"ended","id":"'"$id"'"'*) return 1 ;;
        *'"id":"'"$id"*) return 0 ;;
        *) return 1 ;;
    esac
}

# Forget the deploy, and end.
conclude() {
    rm -rf "$deploy" ${output:+"$output"}
    exit 0
}

# Print an event with its outcome, reason and duration.
#   complete_event EVENT OUTCOME REASON BEGAN
complete_event() {
    now
    printf '%s\n' "$1" | sed \
        -e "s/\"outcome\":\"[^\"]*\"/\"outcome\":\"$2\"/" \
        -e "s/\"reason\":\"[^\"]*\"/\"reason\":\"$3\"/" \
        -e "s/\"duration_s\":[0-9.]*/\"duration_s\":$((seconds - $4))/"
}

# Set $seconds to a time that no change of the clock affects.
now() {
    read -r seconds _ </proc/uptime
    seconds=${seconds%%.*}
}

# Run a mode of this program in a process group of its own, without the lock, and set $exit_code. After a
# request, end it.
#   run_part MODE [ARGUMENT]
run_part() {
    part_output=$output/$1
    rm -f "$part_output.code"
    setsid sh "$deploy/program.sh" "$@" >"$part_output.out" 2>"$part_output.err" 9>&- &
    part=$!
    wait "$part"
    exit_code=$?
    if [ -n "$requested" ]; then
        # The first wait may have ended before the process.
        wait "$part"
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            kill -s 0 -- "-$part" || break
            sleep 1
        done
        kill -s KILL -- "-$part"
    fi
    part=
    echo "$exit_code" >"$part_output.new"
    mv "$part_output.new" "$part_output.code"
}

# Wait until all services are healthy in two queries without a restart in between, for at most $healthy_within
# seconds. Return whether they are.
#   await_health SERVICES
await_health() {
    now
    deadline=$((seconds + healthy_within)) former=
    while [ -z "$requested" ] && [ "$seconds" -lt "$deadline" ]; do
        found=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{else}}none{{end}} {{.Id}} {{.RestartCount}}' \
            $(project_ps "$project" --all --quiet)) || found=
        is_healthy=yes
        for service in $1; do
            printf '%s\n' "$found" | grep -qE "^$service running (healthy|none) " || is_healthy=
        done
        if [ -n "$is_healthy" ] && [ "$found" = "$former" ]; then return 0; fi
        former=${is_healthy:+$found}
        sleep 2
        now
    done
    return 1
}

# Wait for Docker, for at most 300 seconds.
wait_for_docker() {
    now
    deadline=$((seconds + 300))
    until docker version || [ "$seconds" -ge "$deadline" ]; do
        sleep 1
        now
    done >/dev/null 2>&1
}

main() {
    mode=$1 output='' recall='' locked=''
    shift
    case $mode:$1 in
        run:*) output=$1 && shift ;;
        *:recall) recall=$1 && shift ;;
        *:locked) locked=$1 && shift ;;
    esac
    requested='' part='' exit_code=1 reason='' workdir='' project='' id='' tag='' way_back='' detached=no
    confirm_within=0 healthy_within=0 recovery_note='' ended='' back_begun='' back_ended='' expected='' expected_back=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --project) project=$2 ;;
            --id) id=$2 ;;
            --tag) tag=$2 ;;
            --way-back) way_back=$2 ;;
            --confirm-within) confirm_within=$2 ;;
            --healthy-within) healthy_within=$2 ;;
            --detached) detached=$2 ;;
            --recovery-note) recovery_note=$2 ;;
            --ended) ended=$2 ;;
            --back-begun) back_begun=$2 ;;
            --back-ended) back_ended=$2 ;;
            --expect) expected="$expected $2" ;;
            --expect-back) expected_back="$expected_back $2" ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    deploy=$workdir/.ktrdr/deploy
    case $mode in
        run) supervise ;;
        apply) apply_new ;;
        restore) apply_old ;;
        resume) resume "$locked" ;;
    esac
}

# ---- homelab/scripts/worker_secrets.sh
# Secrets of the workers: extension of fetch.sh, apply.sh and diff.sh. It changes nothing on the host.

# ---- scripts/lib/fingerprints.sh
# Fingerprints of secrets that are delivered as files in memory (see memory_secrets.sh). Containers have the
# fingerprint of their secrets as a label, so that Compose replaces only the containers whose secrets have
# changed. A fingerprint depends on a random key, which is beside the secrets in memory and on no disk:
# without the key, a fingerprint reveals nothing. Needs: stack.sh

# Run a command with the files of the further secrets as its last arguments: pairs of name and content. A file
# has the name of its variable in lower case.
#   with_further_files COMMAND [ARGUMENT...]
with_further_files() {
    for variable in $further_secrets; do
        set -- "$@" "$(printf %s "$variable" | tr '[:upper:]' '[:lower:]')"
        eval "set -- \"\$@\" \"\${$variable-}\""
    done
    "$@"
}

# Print the fingerprint of a consumer's secrets, and change nothing. If the key or a file is missing, print
# "missing", which no container has.
#   print_fingerprint CONSUMER [FILE VALUE]...
print_fingerprint() {
    consumer_directory=$secrets_directory/$1
    shift
    values=$#
    # Replace the pairs with the values in the same order.
    while [ "$values" -gt 0 ]; do
        if [ ! -e "$secrets_directory/key" ] || [ ! -e "$consumer_directory/$1" ]; then
            echo missing
            return 0
        fi
        set -- "$@" "$2"
        shift 2
        values=$((values - 2))
    done
    secrets_key=
    read -r secrets_key 2>/dev/null <"$secrets_directory/key" || :
    for value; do
        printf '%s' "$secrets_key$value" | sha256sum
    done | sha256sum | cut -c 1-32
}

# Print the fingerprint in the label of a consumer's containers.
#   print_deployed_fingerprint CONSUMER
print_deployed_fingerprint() {
    docker ps --all \
        --filter "label=com.docker.compose.project=$project" \
        --filter "label=place.mynerd.ktrdr.secrets=$1" \
        --format '{{.Label "place.mynerd.ktrdr.secrets-fingerprint"}}' | tail -n 1
}

# ---- scripts/lib/container_environment.sh
# Environment of a stack's containers. Needs: stack.sh

# Set $environment to the variables of a container, between marks that no value contains.
#   read_environment CONTAINER
read_environment() {
    [ -n "${mark-}" ] || read -r mark </proc/sys/kernel/random/uuid
    environment=$(
        docker container inspect --format "{{range .Config.Env}}$mark{{.}}{{end}}$mark" "$1" 2>/dev/null || :
    )
}

# Set $value to the value of a variable in $environment. If the container reads it from a file, read this
# file in the host's memory or, if only root may do that, in the backend's container.
#   read_variable NAME
read_variable() {
    case $environment in
        *"$mark$1="*)
            value=${environment#*"$mark$1="}
            value=${value%%"$mark"*}
            ;;
        *"$mark$1_FILE="*)
            read_variable "$1_FILE"
            value=$(
                { cat "$secrets_directory/backend/${value##*/}" ||
                    docker exec "$project-backend-1" cat "$value" || :; } 2>/dev/null
                # Protect line ends at the end, which a substitution removes.
                echo x
            )
            value=${value%x}
            ;;
        *) value= ;;
    esac
}

# Export variables of $environment under their names.
#   export_variables NAME...
export_variables() {
    for variable; do
        read_variable "$variable"
        export "$variable=$value"
    done
}

# ---- homelab/scripts/worker_secrets.sh
recall_secrets() {
    ! secrets_are_in_memory || return 1
    container=$(project_ps "$project" --all --format '{{.Names}}' | head -n 1)
    read_environment "$container"
    export_variables DB_USER DB_PASSWORD WORKER_TOKEN $further_secrets
    [ -n "$DB_PASSWORD" ]
}

# Run a command with the files of a worker in memory as arguments: pairs of name and content.
#   with_worker_files COMMAND [ARGUMENT...]
with_worker_files() {
    with_further_files "$@" db_password "${DB_PASSWORD-}" worker_token "${WORKER_TOKEN-}"
}

export_secret_settings() {
    secrets_are_in_memory || return 0
    WORKER_SECRETS=$(with_worker_files print_fingerprint worker)
    export WORKER_SECRETS
}

export_deployed_secret_settings() {
    secrets_are_in_memory || return 0
    WORKER_SECRETS=$(print_deployed_fingerprint worker)
    export WORKER_SECRETS
}


# ---- homelab/scripts/worker_delivery.sh
# Delivery of the workers' secrets: extension of apply.sh, after worker_secrets.sh, and of remove_stack.sh.

# ---- scripts/lib/memory_secrets.sh
# Secrets as files in a host's memory, which containers mount: delivery "tmpfs". Needs: stack.sh,
# $INSTALL_SECRETS_SH and $REMOVE_SECRETS_SH
#
# Each consumer, such as a service, has a directory of its own below $secrets_directory. All users may list
# it, and only the consumer's user may read its files.

# Print the files of a consumer in the format of install_secrets.sh.
#   encode_secrets CONSUMER UID [FILE VALUE]...
encode_secrets() {
    consumer="$1 $2"
    shift 2
    while [ "$#" -gt 0 ]; do
        printf '%s %s %s\n' "$consumer" "$1" "$(printf '%s' "$2" | base64 | tr -d '\n')"
        shift 2
    done
}

# Write the files whose contents have changed, each in one move. They come on standard input in the format
# of encode_secrets.
install_secrets() {
    as_root "$INSTALL_SECRETS_SH" install_secrets "$secrets_directory" \
        "$(stat -c %g "${DOCKER_SOCKET:-/var/run/docker.sock}" 2>/dev/null || echo 0)"
}

# Remove the files of consumers, if any of them exists.
#   remove_secret_files CONSUMER...
remove_secret_files() {
    for consumer; do
        if [ -d "$secrets_directory/$consumer" ]; then
            as_root "$REMOVE_SECRETS_SH" remove_secrets "$secrets_directory" "$@"
            return
        fi
    done
}

# Run a shell program as root. A member of the group docker can be root in a container.
#   as_root PROGRAM NAME ARGUMENT...
as_root() {
    if [ "$(id -u)" = 0 ]; then
        sh -c "$@"
    else
        docker run --rm --interactive --log-driver none --network none --read-only --user 0:0 \
            --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER \
            --security-opt no-new-privileges \
            --volume "${secrets_directory%/*}:${secrets_directory%/*}" \
            --entrypoint sh "$secrets_image" -c "$@"
    fi
}

# ---- homelab/scripts/worker_delivery.sh
INSTALL_SECRETS_SH='# Write secrets into memory, as root of the host or of a container.
#
# Usage: install_secrets.sh DIRECTORY GROUP
# Standard input has a line "CONSUMER UID FILE VALUE" for each file, with the value in base64. GROUP may read
# the key of the fingerprints.
set -eu

# Replace FILE with FILE.new if their contents differ, and remove FILE.new.
#   replace FILE
replace() {
    if cmp -s "$1.new" "$1"; then
        rm -f "$1.new"
    else
        mv -f "$1.new" "$1"
    fi
}

main() {
    umask 022
    mkdir -p "$1"
    case $(stat -f -c %T "$1") in
        tmpfs | ramfs) ;;
        *)
            echo "$1 is not in memory" >&2
            exit 1
            ;;
    esac
    if [ ! -s "$1/key" ]; then
        (
            umask 077
            head -c 32 /dev/urandom | base64 | tr -d "\n" >"$1/key.new"
        )
        chgrp "$2" "$1/key.new"
        chmod 440 "$1/key.new"
        replace "$1/key"
    fi
    while read -r consumer uid name encoded; do
        mkdir -p "$1/$consumer"
        file=$1/$consumer/$name
        (
            umask 377
            rm -f "$file.new"
            printf "%s" "$encoded" | base64 -d >"$file.new"
        )
        chown "$uid" "$file.new"
        replace "$file"
    done
}

main "$@"'
REMOVE_SECRETS_SH='# Remove the secrets of consumers from memory, as root of the host or of a container. Remove the directory
# with the last of them.
#
# Usage: remove_secrets.sh DIRECTORY CONSUMER...
set -eu

main() {
    cd "$1"
    shift
    rm -rf "$@"
    for left in */; do
        [ ! -d "$left" ] || exit 0
    done
    rm -rf "$PWD"
}

main "$@"'

before_up() {
    secrets_are_in_memory || return 0
    with_worker_files encode_secrets worker 10001 | install_secrets
    export_secret_settings
}

after_up() {
    secrets_are_in_memory || remove_secrets
}

remove_secrets() {
    remove_secret_files worker
}

apply_new() {
    export IMAGE_TAG=sha-abc1234
    export IMAGE_NAME=ghcr.io/ktrdr/ktrdr-backend
    export SHARED_HOST_PATH=/mnt/ktrdr-shared
    export WORKER_HOSTNAME=workers-b.lab.test
    export WORKER_BIND_ADDRESS=0.0.0.0
    export KTRDR_API_URL=http://backend.lab.test:8000
    export DB_HOST=backend.lab.test
    export DB_PORT=5432
    export OTLP_ENDPOINT=http://backend.lab.test:4317
    apply_release \
        --project ktrdr-workers \
        --workdir /opt/ktrdr-workers-b \
        --compose-file docker-compose.workers.yml \
        --env-file .env.workers \
        --profile scale-2 \
        --service backtest-worker-1 \
        --service training-worker-1 \
        --service backtest-worker-2 \
        --service training-worker-2 \
        --surplus backtest-worker-3 \
        --managed-directory deploy/node \
        --managed-directory deploy/fields \
        --secrets-delivery env \
        --secrets-directory /run/ktrdr/ktrdr-workers \
        --secrets-image ghcr.io/ktrdr/ktrdr-backend:sha-abc1234 \
        -- \
        .env.core \
        .env.workers \
        docker-compose.core.yml \
        docker-compose.workers.yml \
        monitoring/grafana/datasources.yml \
        monitoring/prometheus.yml
}

keep_new() {
    keep_configuration /opt/ktrdr-workers-b 17b59060dd1e3154fb726ee6 .env.core .env.workers docker-compose.core.yml docker-compose.workers.yml monitoring/grafana/datasources.yml monitoring/prometheus.yml
}

main "$@" \
        --workdir /opt/ktrdr-workers-b \
        --project ktrdr-workers \
        --id 20261123-120000-ab12 \
        --tag sha-abc1234 \
        --confirm-within 180 \
        --healthy-within 120 \
        --detached no \
        --recovery-note '{"id": "20261123-120000-ab12-recovery", "who": "ada@laptop", "reason": "recovery after a cut-off deploy of sha-abc1234", "since": "2026-11-23T12:00:00+00:00"}' \
        --ended '{"schema":1,"event":"ended","id":"20261123-120000-ab12","outcome":"cut off","duration_s":0.0,"images":{},"containers":{},"reason":"","contracts":null,"skipped":[]}' \
        --expect backtest-worker-1 \
        --expect training-worker-1 \
        --expect backtest-worker-2 \
        --expect training-worker-2
-- end of payload --
}

run() {
    export DB_USER="${DB_USER:?}"
    export DB_PASSWORD="${DB_PASSWORD:?}"
    export WORKER_TOKEN="${WORKER_TOKEN:?}"
    export DOCKER_AUTH_CONFIG="${DOCKER_AUTH_CONFIG:?}"
    main /opt/ktrdr-workers-b ktrdr-workers '{"id": "20261123-120000-ab12", "who": "ada@laptop", "reason": "deploy of sha-abc1234", "since": "2026-11-23T12:00:00+00:00"}' 20261123-120000-ab12 '{"schema":1,"event":"begun","id":"20261123-120000-ab12","kind":"deploy","service":"all","tag":"sha-abc1234","commit":"abc1234000000000000000000000000000000000","configuration":"17b59060dd1e3154fb726ee6","who":"ada@laptop","at":"2026-11-23T12:00:00.000+00:00","profiles":["scale-2"],"settings":{"IMAGE_TAG":"sha-abc1234","IMAGE_NAME":"ghcr.io/ktrdr/ktrdr-backend","SHARED_HOST_PATH":"/mnt/ktrdr-shared","WORKER_HOSTNAME":"workers-b.lab.test","WORKER_BIND_ADDRESS":"0.0.0.0","KTRDR_API_URL":"http://backend.lab.test:8000","DB_HOST":"backend.lab.test","DB_PORT":"5432","OTLP_ENDPOINT":"http://backend.lab.test:4317"},"of":"","scale":2}'
    echo ktrdr-script-complete
}
run </dev/null
)
code=$?
[ "$code" = 0 ] || exit "$code"

# Step 6 of 7: wait until healthy (at most 60 s)
(
# Print the state of a stack, in sections: the host's clock, the containers, and the health documents of
# services.
#
# Usage: verify.sh PROJECT [SERVICE...]
# Asks only the SERVICEs for their health documents.
set -eu

# ---- scripts/lib/output.sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/project.sh
# Containers of a Compose project.

# List containers as "docker ps" does, without those that Compose created for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/containers.sh
# Queries of containers and of the services in them. Needs: project.sh

# One JSON object per container with the manifest that it runs in containerd's image store, without the whole configuration, which contains the environment.
CONTAINER_FORMAT='{"id":{{json .Id}},"image":{{json .Image}},"manifest":{{json (index . "ImageManifestDescriptor")}},"name":{{json .Config.Image}},"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},"created":{{json .Created}}}'

# Print a JSON object for each container of a project, and set $containers to them.
#   list_containers PROJECT
list_containers() {
    ids=$(project_ps "$1" --all --quiet --no-trunc)
    containers=
    # A container may disappear between the two commands. The others are printed all the same.
    [ -z "$ids" ] || containers=$(docker inspect --format "$CONTAINER_FORMAT" $ids 2>/dev/null) || :
    [ -z "$containers" ] || printf '%s\n' "$containers"
}

# Return whether list_containers has found a container of one of the services. This avoids a start of
# Docker's program, which takes as long as the rest of the script.
#   any_is_listed SERVICE...
any_is_listed() {
    for service; do
        case $containers in
            *"\"com.docker.compose.service\":\"$service\""*) return 0 ;;
        esac
    done
    return 1
}

# Print the names of a project's volumes if one of the services has no container, with which its volumes may
# have been lost. Containers keep theirs.
#   list_volumes PROJECT SERVICE...
list_volumes() {
    volumes_of=$1
    shift
    for service; do
        any_is_listed "$service" || {
            docker volume ls --quiet --filter "name=^${volumes_of}_"
            return
        }
    done
}

# Print the health document of a service on one line. This is a hook, which an extension defines.
#   ask_service CONTAINER
ask_service() { :; }

# Print "SERVICE DOCUMENT" for each of the services that is healthy. The questions run in parallel, because
# each starts a program in a container. Each line is written by one printf, so that lines do not mix.
#   ask_services PROJECT SERVICE...
ask_services() {
    ask_project=$1
    shift
    [ "$#" -gt 0 ] || return 0
    project_ps "$ask_project" --format '{{.ID}} {{.Label "com.docker.compose.service"}}' \
        --filter health=healthy | {
        while read -r container service; do
            for asked; do
                [ "$service" != "$asked" ] ||
                    printf '%s %s\n' "$service" "$(ask_service "$container" || :)" &
            done
        done
        wait
    }
}

# ---- scripts/verify.sh
main() {
    section clock
    date +%s
    section containers
    list_containers "$1"
    section answers
    ask_services "$@"
}

# ---- homelab/scripts/service_health.sh
# Health documents of KTRDR's services: extension of the scripts that ask services.

CONTAINER_HEALTH_PY='"""Print the health document of the server in this container, on one line.

Inside its container, the server responds even if the host does not publish its port, and the host
needs no further program. With HTTP/1.0, the response ends with the connection.
"""

import os
import socket
import sys

worker = os.environ.get("WORKER_PORT")
path = "/health" if worker else "/api/v1/health"
with socket.create_connection(("127.0.0.1", int(worker or 8000)), 5) as server:
    server.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = server.makefile("rb").read().decode("utf-8", "replace")
sys.stdout.write(" ".join(answer.partition("\r\n\r\n")[2].split()) + "\n")'

ask_service() {
    docker exec "$1" python3 -I -S -c "$CONTAINER_HEALTH_PY" 2>/dev/null </dev/null
}

run() {
    main ktrdr-workers backtest-worker-1 training-worker-1 backtest-worker-2 training-worker-2
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"

# Step 7 of 7: record (at most 30 s)
(
# Record the outcome of a deploy, keep its configuration, and end its supervisor: the operator has decided.
#
# Usage: record.sh --workdir DIRECTORY --event EVENT... [--ends ID] [--copy COPY] [--keep CONFIGURATION -- FILE...]
# EVENT is a line of JSON, ID that of the deploy that the supervisor may go back from. COPY is a copy of the history, in
# a directory of the share. CONFIGURATION is the hash of the FILEs of a good release. Fails with 73 if the host has
# already gone back from it.
set -eu

# ---- scripts/lib/events.sh
# Events of a host's history: one line of JSON each, in WORKDIR/.ktrdr/history.jsonl. They contain no secret.
# Lines are only appended.

# Append events, after a line that an interruption may have cut short, and write them to the disk.
#   append_events WORKDIR EVENT...
append_events() {
    history=$1/.ktrdr/history.jsonl
    umask 022
    [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"
    shift
    # End an incomplete last line, so that the new one is separate.
    [ ! -s "$history" ] || [ -z "$(tail -c 1 "$history")" ] || echo >>"$history"
    printf '%s\n' "$@" >>"$history"
    flush "$history" "${history%/*}"
}

# Write files or directories to the disk now, as far as this host's sync can.
#   flush PATH...
flush() {
    sync "$@" 2>/dev/null || :
}

# ---- scripts/lib/history.sh
# History of a host's deploys, in WORKDIR/.ktrdr/history.jsonl, and what it refers to. It contains no secret.

# Print the archives of the kept configurations.
#   list_kept WORKDIR
list_kept() {
    ls "$1/.ktrdr/releases" 2>/dev/null || :
}

# Return whether a copy of the history has events that the history lacks. The share may not answer.
#   copy_is_ahead WORKDIR COPY
copy_is_ahead() {
    size=$(timeout -s KILL 5 stat -c %s "$2" 2>/dev/null) || return 1
    ! head -c "$size" "$1/.ktrdr/history.jsonl" 2>/dev/null | timeout -s KILL 5 cmp -s - "$2"
}

# Print the events, oldest first. With LINES, print only the last of them, and fewer actions, because these must
# not displace the deploys that a rollback needs.
#   read_history WORKDIR [LINES]
read_history() {
    history=$1/.ktrdr/history.jsonl
    if [ ! -e "$history" ]; then
        return 0
    elif [ -n "${2-}" ]; then
        awk -v lines="$2" '/"event":"action"/ { action[++actions] = $0; next } { deploy[++deploys] = $0 }
            END {
                for (i = deploys - lines + 1; i <= deploys; i++) if (i > 0) print deploy[i]
                for (i = actions - 19; i <= actions; i++) if (i > 0) print action[i]
            }' "$history"
    else
        cat "$history"
    fi
}

# ---- scripts/lib/kept_releases.sh
# Configurations that a host keeps, in WORKDIR/.ktrdr/releases.

# Write the files of the work directory to the archive of their configuration. An archive that is not empty is
# not replaced. Needs: events.sh
#   keep_configuration WORKDIR CONFIGURATION FILE...
keep_configuration() {
    archive=$1/.ktrdr/releases/$2.tar.gz
    directory=$1
    shift 2
    if [ ! -s "$archive" ]; then
        mkdir -p "$directory/.ktrdr/releases" &&
            tar -czf "$archive.partial" -C "$directory" "$@" &&
            flush "$archive.partial"
        mv -f "$archive.partial" "$archive"
    fi
}

# ---- scripts/lib/output.sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/supervision.sh
# A deploy in progress, in WORKDIR/.ktrdr/deploy: program.sh is the supervisor's program, `supervisor` contains
# its process id and the directory of its outputs, `phases` what it does, `stopped` the containers that stay so.
# undecided.ID becomes operator.ID or host.ID once one of them has decided the outcome. No file contains a secret.
# The output of Compose, which might, is in the host's memory.

# Decide the outcome of a deploy in progress, if nobody has decided it yet. Return whether this one has. A full
# disk still has room for a name.
#   decide WORKDIR ID operator|host
decide() {
    mv "$1/.ktrdr/deploy/undecided.$2" "$1/.ktrdr/deploy/$3.$2" 2>/dev/null
}

# Create a directory for outputs in memory, and print its name.
make_output_directory() {
    umask 077
    mktemp -d "$([ ! -d /dev/shm ] || echo /dev/shm/)ktrdr.XXXXXXXX"
}

# End the supervisor, if one runs, and forget its deploy: nothing goes on with it any more.
#   forget_deploy WORKDIR
forget_deploy() {
    if find_supervisor "$1"; then
        kill -s KILL -- "-$supervisor" 2>/dev/null || :
        while find_supervisor "$1"; do sleep 0.1; done
    fi
    rm -rf "$1/.ktrdr/deploy" ${output:+"$output"}
}

# Set $supervisor and $output, and return whether the supervisor runs. The system reuses process ids.
#   find_supervisor WORKDIR
find_supervisor() {
    supervisor='' output=''
    { read -r supervisor output <"$1/.ktrdr/deploy/supervisor"; } 2>/dev/null || return 1
    { tr '\0' ' ' <"/proc/$supervisor/cmdline"; } 2>/dev/null | grep -qF ".ktrdr/deploy/program.sh "
}

# Print what a process writes to NAME.out and NAME.err until NAME.code exists, and return that code. Return 70 if
# the supervisor ends before.
#   follow NAME SUPERVISOR
follow() {
    shown_out=0 shown_err=0
    while :; do
        state=running
        kill -0 "$2" 2>/dev/null || state=gone
        [ ! -e "$1.code" ] || state=ended
        print_new "$1.out" "$shown_out"
        shown_out=$size
        print_new "$1.err" "$shown_err" >&2
        shown_err=$size
        case $state in
            ended) return "$(cat "$1.code")" ;;
            gone) return 70 ;;
        esac
        sleep 0.1
    done
}

# Print the bytes of a file after the first ones, and set $size to its size.
#   print_new FILE SHOWN
print_new() {
    size=$({ wc -c <"$1"; } 2>/dev/null) || size=0
    [ "$size" -le "$2" ] || tail -c +"$(($2 + 1))" "$1" 2>/dev/null | head -c "$((size - $2))"
}

# Tell the operators what the supervisor does.
#   announce TEXT
announce() {
    printf '%s %s\n' "$(date +%s)" "$1" >>"$deploy/phases" || :
}

# ---- scripts/record.sh
newline='
'

# Copy the history to the share, which another disk has. Keep a copy with events that the history has lost.
#   copy_history WORKDIR COPY
copy_history() {
    copy_is_ahead "$1" "$2" || {
        timeout -s KILL 10 sh -c '[ -e "${2%/*/*}/.ktrdr-share" ] && mkdir -p "${2%/*}" &&
            cp "$1" "$2.partial" && mv -f "$2.partial" "$2"' copy "$1/.ktrdr/history.jsonl" "$2" 2>/dev/null || :
    }
}

main() {
    workdir='' events='' configuration='' id='' copy=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --event) events="$events${events:+$newline}$2" ;;
            --ends) id=$2 ;;
            --keep) configuration=$2 ;;
            --copy) copy=$2 ;;
            --)
                shift
                break
                ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    if [ -n "$id" ]; then
        if ! decide "$workdir" "$id" operator && [ -n "$configuration" ]; then
            echo "the host has already gone back by itself" >&2
            exit 73
        fi
    fi
    # A good release also ends what another deploy has left behind.
    if [ -n "$configuration" ] || [ -e "$workdir/.ktrdr/deploy/operator.$id" ]; then
        forget_deploy "$workdir"
    fi
    append_events "$workdir" "$events"
    [ -z "$copy" ] || copy_history "$workdir" "$copy"
    [ -z "$configuration" ] || keep_configuration "$workdir" "$configuration" "$@"
}

run() {
    main \
        --workdir /opt/ktrdr-workers-b \
        --event '{"schema":1,"event":"ended","id":"20261123-120000-ab12","outcome":"cut off","duration_s":0.0,"images":{},"containers":{},"reason":"the steps were run manually, so health was not checked","contracts":null,"skipped":[]}' \
        --ends 20261123-120000-ab12 \
        --copy /mnt/ktrdr-shared/.ktrdr-history/ktrdr-workers-workers-b.lab.test.jsonl \
        --keep 17b59060dd1e3154fb726ee6 \
        -- \
        .env.core \
        .env.workers \
        docker-compose.core.yml \
        docker-compose.workers.yml \
        monitoring/grafana/datasources.yml \
        monitoring/prometheus.yml
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"
