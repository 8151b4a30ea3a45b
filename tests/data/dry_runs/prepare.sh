(
# Print facts about a host that is to be prepared, one "NAME=VALUE" per line, and change nothing.
#
# Usage: prepare_facts.sh SHARED UNIT UID [PEER...]
#   SHARED   directory that the containers share with other hosts
#   UNIT     name of the unit that mounts it
#   UID      user that the containers run as
#   PEER     name of a host whose addresses are needed
set -eu

# ---- scripts/lib/facts.sh
# Facts about a host, one "NAME=VALUE" per line.

# Print a fact.
#   fact NAME VALUE
fact() {
    printf '%s=%s\n' "$1" "$2"
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

# ---- scripts/prepare_facts.sh
# Print the distribution, and the kind of machine.
describe_system() {
    (
        ID='' VERSION_ID='' VERSION_CODENAME='' PRETTY_NAME=''
        [ ! -r /etc/os-release ] || . /etc/os-release
        fact os "$ID"
        fact os_version "$VERSION_ID"
        fact codename "$VERSION_CODENAME"
        fact os_name "$PRETTY_NAME"
    )
    fact architecture "$(dpkg --print-architecture 2>/dev/null)"
    fact systemd "$([ -d /run/systemd/system ] && echo yes)"
    fact proxmox "$([ -d /etc/pve ] && echo yes)"
    fact container "$(systemd-detect-virt --container 2>/dev/null | grep -v none)"
    # First user of the machine outside that root of this container is; 0 without a mapping.
    read -r _ first_uid _ </proc/self/uid_map
    fact first_uid "$first_uid"
    # What runc does first: a container without nesting may not.
    fact nesting "$(unshare --mount --pid --fork mount -t proc proc /mnt 2>/dev/null && echo yes)"
    fact keyctl "$(has_keyctl && echo yes)"
    # Control groups of version 1 allow inner containers no more devices than the outer one has.
    devices=/sys/fs/cgroup/devices/devices.list
    fact devices "$({ [ ! -r "$devices" ] || grep -q '^a' "$devices"; } && echo yes)"
}

# Return whether the system call keyctl exists. Its number differs between architectures.
has_keyctl() {
    case $(uname -m) in
        x86_64) number=250 ;;
        aarch64) number=219 ;;
        *) return 0 ;;
    esac
    perl -e "syscall($number, 0, -3, 0) < 0 and exit \$!{ENOSYS}; exit 0" 2>/dev/null
}

describe_docker() {
    fact docker_kind "$(print_docker_kind "$(ask_docker info --format '{{.DockerRootDir}}')")"
    fact docker "$(dockerd --version 2>/dev/null | sed -n 's/^Docker version \([^,]*\).*/\1/p')"
    fact compose "$(docker compose version --short 2>/dev/null)"
    config=/etc/docker/daemon.json
    if [ -e "$config" ]; then
        fact daemon_json "$(base64 -w 0 <"$config")"
    fi
    # Options on the command line may not be in the file as well.
    fact dockerd_options "$(
        { tr '\0' '\n' <"/proc/$(cat /run/docker.pid)/cmdline"; } 2>/dev/null |
            sed -n 's/^--\([a-z-]*\).*/\1/p' | tr '\n' ' ' || :
    )"
    fact repository "$(grep -rlF download.docker.com /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | tr '\n' ' ' || :)"
    fact networks "$(print_docker_networks)"
    fact routes "$(print_routes)"
    # Addresses that the host must reach: name servers, and the operator.
    client=${SSH_CONNECTION-}
    fact needed "$(sed -n 's/^nameserver *//p' /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null | tr '\n' ' ')${client%% *}"
}

# Print what is mounted on the shared directory, unless our own unit does that.
#   describe_share DIRECTORY UNIT
describe_share() {
    fact mounted "$(
        [ -e "/etc/systemd/system/$2" ] ||
            findmnt --noheadings --output SOURCE --mountpoint "$1" 2>/dev/null | tail -n 1
    )"
}

describe_services() {
    fact firewall "$([ -e /etc/ktrdr/firewall.nft ] && echo yes)"
    fact unattended_upgrades "$(systemctl is-enabled unattended-upgrades.service 2>/dev/null)"
    fact synchronised "$(timedatectl show --property NTPSynchronized --value 2>/dev/null || :)"
}

main() {
    fact login "${SUDO_USER:-root}"
    describe_system
    describe_docker
    describe_share "$1" "$2"
    fact user "$(getent passwd "$3" | cut -d : -f 1)"
    describe_services
    shift 3
    for peer; do
        fact "peer $peer" "$(timeout 10 getent ahosts "$peer" | awk '!seen[$1]++ { printf "%s ", $1 }')"
    done
}

run() {
    main /mnt/ktrdr-shared 'mnt-ktrdr\x2dshared.mount' 10001 backend.lab.test
    echo ktrdr-script-complete
}
run </dev/null
) 9>&-
code=$?
[ "$code" = 0 ] || exit "$code"

(
# Bring a host into a described state, in the order of the options, or print what that would change. Run as root.
#
# Usage: prepare.sh check|apply OPTION ARGUMENT...   No argument begins with "--".
#   --lock DIRECTORY NOTE               hold the lock of this work directory meanwhile, if it exists
#   --packages "NAME..."                install packages
#   --at-least PACKAGE VERSION          refuse if apt offers an older version
#   --repository URL SHA256 SOURCE      add a repository to apt, whose key has this sum
#   --docker-config CONTENT SHA256 ADDED  write Docker's daemon.json; SHA256 is that of the file that CONTENT
#                                       adds to, and ADDED is shown instead of the difference
#   --user NAME UID                     create a user and its group, without a login
#   --member USER GROUP                 add a user to a group
#   --directory DIRECTORY OWNER         create a directory; an empty owner is not changed
#   --firewall RULES                    load nftables' RULES now and at each start, before Docker
#   --share DIRECTORY UNIT CONTENT      mount a directory by systemd, before Docker starts
#   --docker                            start Docker; restart it if daemon.json is newer
#   --no-firewall, --no-share UNIT      undo these
# Prints a line "* CHANGE" for each change, with the lines of files indented below it, and "! NOTE" for what is
# left to do. Fails with 70 and a sentence if something is refused, 71 if the share cannot be mounted, and 75 if
# another command holds the lock.
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

# ---- scripts/prepare.sh
FIREWALL_SERVICE='# Written by `ktrdr host prepare`, which also removes it (--undo).
[Unit]
Description=Only the hosts of KTRDR reach its published ports
DefaultDependencies=no
# nftables.service forgets all rules when it starts or reloads.
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
Wants=network-pre.target
Before=network-pre.target docker.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/ktrdr/firewall.nft
ExecReload=/usr/sbin/nft -f /etc/ktrdr/firewall.nft
ExecStop=-/usr/sbin/nft delete table inet ktrdr

[Install]
WantedBy=sysinit.target nftables.service'

# Tests replace /etc.
etc=${KTRDR_ETC:-/etc}
UNITS=$etc/systemd/system
DROP_IN=$UNITS/docker.service.d/ktrdr-share.conf
RULES=$etc/ktrdr/firewall.nft
FIREWALL=ktrdr-firewall.service
DOCKER_CONFIG=$etc/docker/daemon.json
KEY=$etc/apt/keyrings/docker.asc
SOURCE=$etc/apt/sources.list.d/docker.sources

changed='' lists_are_fresh=''

# Print a change. Return whether to make it.
#   change TEXT
change() {
    printf '* %s\n' "$1"
    [ "$mode" = apply ]
}

# End the script, with $code or 70, and the last line of a program's messages.
#   refuse SENTENCE [MESSAGES]
refuse() {
    printf '%s\n' "$1${2:+: $(printf '%s\n' "$2" | tail -n 1)}" >&2
    exit "${code:-70}"
}

# -------------------------------------------------------------------------------------------------- packages

apt_get() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -o DPkg::Lock::Timeout=300 "$@" 2>&1
}

# Update the lists of packages, once. Wait for another program that does the same, such as apt's own timer.
update_lists() {
    attempts=30
    until [ -n "$lists_are_fresh" ] || answer=$(apt_get update); do
        attempts=$((attempts - 1))
        [ "${answer#*Could not get lock}" != "$answer" ] && [ "$attempts" -gt 0 ] ||
            refuse "apt cannot update its lists" "$answer"
        sleep 10
    done
    lists_are_fresh=yes
}

ensure_packages() {
    missing=
    for package in $1; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    change "install the packages$missing" || return 0
    update_lists
    answer=$(apt_get install --yes --no-install-recommends -o Dpkg::Options::=--force-confold $missing) ||
        refuse "apt cannot install$missing" "$answer"
}

# In a preview, the lists may be old, and the repository is yet to come.
require_version() {
    [ "$mode" = apply ] || return 0
    update_lists
    offered=$(apt-cache policy "$1" | sed -n 's/^  Candidate: //p')
    dpkg --compare-versions "${offered#(none)}" ge "$2" || refuse "apt offers $1 ${offered:-(none)}, not $2 or newer"
}

add_repository() {
    if [ "$(sha256sum "$KEY" 2>/dev/null | cut -d ' ' -f 1)" != "$2" ] && change "download $1/gpg to $KEY"; then
        mkdir -p "${KEY%/*}"
        answer=$(/usr/lib/apt/apt-helper download-file "$1/gpg" "$KEY" "SHA256:$2" 2>&1) || {
            rm -f "$KEY"
            refuse "the key $1/gpg cannot be downloaded, or is not the known one" "$answer"
        }
        chmod 644 "$KEY"
    fi
    write_file "$SOURCE" "$3"
    # A repository without this distribution would break every later update.
    if [ "$mode" = apply ] && ! (update_lists); then
        rm -f "$SOURCE"
        exit 70
    fi
}

# ----------------------------------------------------------------------------------------------------- files

# Write a file if it differs, in one move.
#   write_file FILE CONTENT [TEXT]   TEXT is shown instead of the difference
write_file() {
    if printf '%s\n' "$2" | cmp -s - "$1"; then return 0; fi
    changed="$changed $1 "
    old=$1
    [ -e "$1" ] || old=/dev/null
    printf '* write %s\n' "$1"
    if [ "$#" = 3 ]; then
        printf '%s\n' "$3"
    else
        printf '%s\n' "$2" | diff -U 2 "$old" - | sed 1,3d
    fi | sed 's/^/    /'
    [ "$mode" = apply ] || return 0
    mkdir -p "${1%/*}"
    new=$(mktemp "${1%/*}/.ktrdr-XXXXXX")
    printf '%s\n' "$2" >"$new"
    chmod 644 "$new"
    mv "$new" "$1"
    lists_are_fresh=
    [ "${1#"$UNITS"}" = "$1" ] || systemctl daemon-reload
}

write_docker_config() {
    sum=-
    [ ! -e "$DOCKER_CONFIG" ] || sum=$(sha256sum "$DOCKER_CONFIG" | cut -d ' ' -f 1)
    [ "$sum" = "$2" ] || refuse "$DOCKER_CONFIG was changed meanwhile"
    if [ "$mode" = apply ] && [ "$sum" != - ]; then cp -p "$DOCKER_CONFIG" "$DOCKER_CONFIG.before-ktrdr"; fi
    write_file "$DOCKER_CONFIG" "$1" "$3"
    # A Docker that is installed later starts with it.
    systemctl is-active --quiet docker.service || changed=
}

remove_file() {
    if [ -e "$1" ] && change "remove $1"; then
        rm -f "$1"
        systemctl daemon-reload
    fi
}

ensure_directory() {
    owner=${2:-root}
    if [ ! -d "$1" ]; then
        change "create the directory $1, owned by $owner" || return 0
        mkdir -p "$1"
    elif [ -z "$2" ] || [ "$(stat -c %u "$1")" = "$(id -u "$2" 2>/dev/null)" ]; then
        return 0
    else
        change "give the directory $1 to $owner" || return 0
    fi
    chown "$(id -u "$owner"):$(id -g "$owner")" "$1" ||
        refuse "$1 can be given to $owner only on the machine around this container"
}

ensure_user() {
    if getent passwd "$2" >/dev/null; then return 0; fi
    change "create the user $1 ($2), which cannot log in" || return 0
    getent group "$2" >/dev/null || groupadd --gid "$2" "$1"
    useradd --uid "$2" --gid "$2" --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

ensure_member() {
    case " $(id -nG "$1") " in
        *" $2 "*) ;;
        *) ! change "add the user $1 to the group $2" || usermod --append --groups "$2" "$1" ;;
    esac
}

# -------------------------------------------------------------------------------------------------- services

state_of() {
    systemctl show --property ActiveState --value "$1"
}

# Return whether a file is newer than the start of a unit, or was changed by this script.
#   is_newer FILE UNIT
is_newer() {
    if [ "${changed#*" $1 "}" != "$changed" ]; then return 0; fi
    [ -e "$1" ] || return 1
    began=$(TZ=UTC systemctl show --property ActiveEnterTimestamp --value "$2")
    [ "$(stat -c %Y "$1")" -gt "$(date -d "$began" +%s)" ]
}

ensure_firewall() {
    write_file "$RULES" "$1"
    write_file "$UNITS/$FIREWALL" "$FIREWALL_SERVICE"
    if systemctl is-enabled --quiet $FIREWALL 2>/dev/null && nft list table inet ktrdr >/dev/null 2>&1 &&
        ! is_newer "$RULES" $FIREWALL && ! is_newer "$UNITS/$FIREWALL" $FIREWALL; then
        return 0
    fi
    change "load the firewall rules, now and at each start" || return 0
    answer=$(nft --check -f "$RULES" 2>&1) ||
        refuse "nftables cannot load $RULES" "$(printf '%s\n' "$answer" | grep Error)"
    systemctl enable --quiet $FIREWALL
    systemctl restart $FIREWALL
}

undo_firewall() {
    if [ -e "$UNITS/$FIREWALL" ] && change "unload the firewall rules"; then
        systemctl disable --quiet --now $FIREWALL
    fi
    remove_file "$UNITS/$FIREWALL"
    remove_file "$RULES"
}

ensure_share() {
    write_file "$UNITS/$2" "$3"
    write_file "$DROP_IN" "# Docker waits for the share, so that no container starts with an empty directory in its place.
[Unit]
RequiresMountsFor=$(printf %s "$1" | sed 's/ /\\x20/g')"
    case $(state_of "$2") in
        active)
            ! is_newer "$UNITS/$2" "$2" || echo "! $1 stays mounted as it is until the host restarts"
            return 0
            ;;
        activating) ;;
        *)
            change "mount $1" || return 0
            systemctl start --no-block "$2"
            ;;
    esac
    attempts=15
    while state=$(state_of "$2") && [ "$state" != active ] && [ "$state" != failed ] && [ "$attempts" -gt 0 ]; do
        sleep 1
        attempts=$((attempts - 1))
    done
    case $state in
        active) ;;
        failed) share_error="$1 cannot be mounted: $(journalctl --unit "$2" --output cat --lines 20 | grep -i '^mount' | tail -n 1)" ;;
        *) echo "! $1 is not mounted yet, because its server does not answer: $2 keeps trying, and Docker waits for it" ;;
    esac
}

undo_share() {
    remove_file "$DROP_IN"
    if [ -e "$UNITS/$1" ] && [ "$(state_of "$1")" != inactive ] && change "unmount the share; running containers keep it"; then
        systemctl stop "$1"
    fi
    remove_file "$UNITS/$1"
}

ensure_docker() {
    if [ -n "$(systemctl show --property Job --value docker.service)" ]; then
        echo "! Docker waits for the share, because its server does not answer"
    elif ! systemctl is-active --quiet docker.service; then
        ! change "start Docker" || systemctl enable --quiet --now docker.service
    elif is_newer "$DOCKER_CONFIG" docker.service && change "restart Docker, with $(docker ps --quiet | wc -l) running containers"; then
        systemctl restart docker.service && return 0
        mv "$DOCKER_CONFIG.before-ktrdr" "$DOCKER_CONFIG" || rm -f "$DOCKER_CONFIG"
        systemctl reset-failed docker.service
        systemctl start docker.service
        refuse "Docker did not start with the new $DOCKER_CONFIG; the former one is back"
    fi
}

# Hold the lock of a work directory, as acquire_lock.sh does, until the script ends.
hold_lock() {
    [ -e "$1/.ktrdr/lock" ] || return 0
    exec 8<>"$1/.ktrdr/lock"
    flock -n 8 || {
        cat "$1/.ktrdr/lock"
        exit 75
    }
    printf '%s %s\n' "$$" "$2" >"$1/.ktrdr/lock"
}

main() {
    mode=$1 share_error=
    shift
    while [ "$#" -gt 0 ]; do
        option=$1
        shift
        case $option in
            --lock) hold_lock "$1" "$2" ;;
            --packages) ensure_packages "$1" ;;
            --at-least) require_version "$1" "$2" ;;
            --repository) add_repository "$1" "$2" "$3" ;;
            --docker-config) write_docker_config "$1" "$2" "$3" ;;
            --user) ensure_user "$1" "$2" ;;
            --member) ensure_member "$1" "$2" ;;
            --directory) ensure_directory "$1" "$2" ;;
            --firewall) ensure_firewall "$1" ;;
            --share) ensure_share "$1" "$2" "$3" ;;
            --docker) ensure_docker ;;
            --no-firewall) undo_firewall ;;
            --no-share) undo_share "$1" ;;
            *) refuse_option "$option" ;;
        esac
        until [ "$#" = 0 ] || [ "${1#--}" != "$1" ]; do shift; done
    done
    [ -z "$share_error" ] || code=71 refuse "$share_error"
}

run() {
    main apply \
        --lock /opt/ktrdr-workers-b '{"id": "x", "who": "ada@laptop", "reason": "restart", "since": "2026-11-24T06:00:00+00:00"}' \
        --packages 'ca-certificates nftables nfs-common' \
        --firewall '# Written by `ktrdr host prepare`, which also updates and removes it (--undo).
table inet ktrdr
delete table inet ktrdr
table inet ktrdr {
    chain published_ports {
        # Before Docker translates addresses, so that these are the ports of the host.
        type filter hook prerouting priority mangle; policy accept;
        iif lo accept
        fib daddr type != local accept
        ct state established,related accept
        tcp dport { 5003, 5004, 5005, 5006, 5007, 5008 } ip saddr { backend.lab.test } accept
        tcp dport { 5003, 5004, 5005, 5006, 5007, 5008 } ip6 saddr { backend.lab.test } accept
        tcp dport { 5003, 5004, 5005, 5006, 5007, 5008 } drop
    }
}' \
        --repository https://download.docker.com/linux/debian 1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570 'Types: deb
URIs: https://download.docker.com/linux/debian
Suites: trixie
Components: stable
Signed-By: /etc/apt/keyrings/docker.asc' \
        --at-least docker-compose-plugin 2.38.0 \
        --docker-config '{
  "log-driver": "json-file",
  "log-opts": {
    "max-file": "5",
    "max-size": "10m"
  }
}' - '"log-driver": "json-file"
"log-opts": {"max-file": "5", "max-size": "10m"}' \
        --packages 'docker-ce docker-ce-cli containerd.io docker-compose-plugin' \
        --user ktrdr 10001 \
        --directory /opt/ktrdr-workers-b '' \
        --directory /mnt/ktrdr-shared '' \
        --docker \
        --share /mnt/ktrdr-shared 'mnt-ktrdr\x2dshared.mount' '# Written by `ktrdr host prepare`, which also removes it (--undo).
[Unit]
Description=Directory that the hosts of KTRDR share
# The mount waits for its server, and Docker for the mount. With the default dependencies, logins of users
# would wait for it, too.
DefaultDependencies=no
Wants=network-online.target
After=network-online.target
Before=docker.service umount.target
Conflicts=umount.target

[Mount]
What=backend.lab.test:/srv/ktrdr-shared
Where=/mnt/ktrdr-shared
# With nfs4 instead, Proxmox'"'"' `mount=nfs` would not allow it.
Type=nfs
Options=nfsvers=4.2,hard,nosuid,nodev,nosymfollow,retry=10080,port=2049
TimeoutSec=infinity
LazyUnmount=yes'
    echo ktrdr-script-complete
}
run </dev/null
) 9>&-
code=$?
[ "$code" = 0 ] || exit "$code"
