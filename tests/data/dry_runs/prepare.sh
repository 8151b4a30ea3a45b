(
# Print facts about a host that is to be prepared, one "NAME=VALUE" per line, and change nothing.
#
# Usage: prepare_facts.sh WORKDIR SHARED [PEER...]
#   WORKDIR  work directory of the stack
#   SHARED   directory that the containers share with other hosts
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
        ID='' VERSION_CODENAME='' PRETTY_NAME=''
        [ ! -r /etc/os-release ] || . /etc/os-release
        fact os "$ID"
        fact codename "$VERSION_CODENAME"
        fact os_name "$PRETTY_NAME"
    )
    fact systemd "$([ -d /run/systemd/system ] && echo yes)"
    fact proxmox "$([ -d /etc/pve ] && echo yes)"
    container=$(systemd-detect-virt --container 2>/dev/null) || container=
    fact container "$container"
    # First user of the machine outside that root of this container is; 0 without a mapping.
    read -r _ first_uid _ </proc/self/uid_map
    fact first_uid "$first_uid"
    # What runc does first: a container without nesting may not.
    fact nesting "$(unshare --mount --pid --fork mount -t proc proc /mnt 2>/dev/null && echo yes)"
    # Control groups of version 1 allow inner containers no more devices than the outer one has.
    devices=/sys/fs/cgroup/devices/devices.list
    fact devices "$({ [ ! -r "$devices" ] || grep -q '^a' "$devices"; } && echo yes)"
    fact packages "$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p' | tr '\n' ' ')"
}

describe_docker() {
    fact docker_kind "$(print_docker_kind "$(ask_docker info --format '{{.DockerRootDir}}')")"
    fact docker "$(dockerd --version 2>/dev/null | sed -n 's/^Docker version \([^,]*\).*/\1/p')"
    fact compose "$(docker compose version --short 2>/dev/null)"
    fact daemon_json "$(base64 -w 0 /etc/docker/daemon.json 2>/dev/null)"
    fact repository "$(grep -rlF download.docker.com /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | tr '\n' ' ')"
    fact networks "$(print_docker_networks)"
    fact routes "$(print_routes)"
    # Addresses that the host must reach: name servers, and the operator.
    client=${SSH_CONNECTION-}
    fact needed "$(sed -n 's/^nameserver *//p' /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null | tr '\n' ' ')${client%% *}"
}

main() {
    fact login "${SUDO_USER:-root}"
    fact deployed "$([ -e "$1/.ktrdr" ] && echo yes)"
    # What is mounted on the shared directory, unless our own unit does that.
    fact mounted "$(
        [ -e "/etc/systemd/system/$(systemd-escape --path --suffix=mount "$2")" ] ||
            findmnt --noheadings --output SOURCE --mountpoint "$2" 2>/dev/null | tail -n 1
    )"
    fact firewall "$([ -e /etc/ktrdr/firewall.nft ] && echo yes)"
    fact unattended_upgrades "$(systemctl is-enabled unattended-upgrades.service 2>/dev/null)"
    fact synchronised "$(timedatectl show --property NTPSynchronized --value 2>/dev/null)"
    describe_system
    describe_docker
    shift 2
    for peer; do
        fact "peer $peer" "$(timeout 10 getent ahosts "$peer" | awk '!seen[$1]++ { printf "%s ", $1 }')"
    done
}

run() {
    main /opt/ktrdr-workers-b /mnt/ktrdr-shared backend.lab.test
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"

(
# Bring a host into a described state, in the order of the options, or print what that would change. Run as root.
#
# Usage: prepare.sh check|apply OPTION ARGUMENT...   No argument begins with "--".
#   --packages "NAME, ..."          install packages; "NAME (>= VERSION)" refuses older ones
#   --repository URL SHA256 SOURCE  add a repository to apt, whose key has this sum
#   --docker-config CONTENT ADDED   write Docker's daemon.json; ADDED is shown instead of the difference
#   --docker                        start Docker; restart it if daemon.json is newer
#   --user NAME UID                 create a user and its group, without a login
#   --member USER GROUP             add a user to a group
#   --directory DIRECTORY OWNER     create a directory; an empty owner is not changed
#   --firewall RULES                load nftables' RULES now and at each start, before Docker
#   --share DIRECTORY CONTENT       mount a directory by the unit CONTENT of systemd, before Docker starts
#   --recovery WORKDIR PROJECT USER  go on with a deploy at the host's start, as the user who deploys
#   --no-firewall, --no-share DIRECTORY   undo these
# Prints a line "* CHANGE" for each change, with the lines of files indented below it, and "! NOTE" for what is
# left to do. Fails with 70 and a sentence if something is refused.
set -euf
umask 022

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

# ---- scripts/lib/recovery_unit.sh
# Unit of systemd that goes on with a deploy after a restart of the host. Needs: $RECOVERY_UNIT_FILE

# Print the unit of a stack, which runs as the user that deploys.
#   print_recovery_unit WORKDIR USER
print_recovery_unit() {
    printf '%s\n' "$RECOVERY_UNIT_FILE" | sed \
        -e "s#@user@#$2#" -e "s#@workdir@#$(printf %s "$1" | sed 's/[#&\\]/\\&/g; s/%/%%/g')#"
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

# Tests replace /etc.
etc=${KTRDR_ETC:-/etc}
UNITS=$etc/systemd/system
RULES=$etc/ktrdr/firewall.nft
FIREWALL=ktrdr-firewall.service
DOCKER_CONFIG=$etc/docker/daemon.json
KEY=$etc/apt/keyrings/docker.asc

# The file that was written last, and the file of a repository that was added.
written='' repository=''

# Print a change. Return whether to make it.
#   change TEXT
change() {
    printf '* %s\n' "$1"
    [ "$mode" = apply ]
}

# End the script with a sentence, and the first error among the messages of apt, nft or mount.
#   refuse SENTENCE [MESSAGES]
refuse() {
    reason=$(printf '%s\n' "${2-}" | sed -nE 's/.*(Depends: )/\1/; /^E: |^Depends: |Error: |^mount\./{p;q;}')
    printf '%s\n' "$1${reason:+: $reason}" >&2
    exit 70
}

# Write a file if it differs, in one move.
#   write_file FILE CONTENT [TEXT]   TEXT is shown instead of the difference
write_file() {
    if printf '%s\n' "$2" | cmp -s - "$1"; then return 0; fi
    written=$1
    printf '* write %s\n' "$1"
    printf '%s\n' "${3-$(printf '%s\n' "$2" | diff -N -U 2 "$1" - | sed 1,3d)}" | sed 's/^/    /'
    [ "$mode" = apply ] || return 0
    mkdir -p "${1%/*}"
    printf '%s\n' "$2" >"$1.ktrdr-new"
    mv "$1.ktrdr-new" "$1"
    [ "${1#"$UNITS"}" = "$1" ] || systemctl daemon-reload
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -o DPkg::Lock::Timeout=300 "$@" 2>&1
}

# Wait for another program that updates apt's lists, such as apt's own timer. Other failures to update them matter
# only if packages are missing.
install_packages() {
    change "install $1" || return 0
    attempts=30
    until answer=$(
        apt_get update || :
        apt_get satisfy --yes --no-install-recommends -o Dpkg::Options::=--force-confold "$1"
    ); do
        attempts=$((attempts - 1))
        if [ "${answer#*Could not get lock}" = "$answer" ] || [ "$attempts" = 0 ]; then
            # A repository without this distribution would break every later update.
            rm -f ${repository:+"$repository"}
            refuse "apt cannot install $1" "$answer"
        fi
        sleep 10
    done
}

add_repository() {
    if [ "$(sha256sum "$KEY" 2>/dev/null | cut -d ' ' -f 1)" != "$2" ] && change "download $1/gpg to $KEY"; then
        mkdir -p "${KEY%/*}"
        answer=$(/usr/lib/apt/apt-helper download-file "$1/gpg" "$KEY" "SHA256:$2" 2>&1) ||
            refuse "the key $1/gpg cannot be downloaded, or is not the known one" "$answer"
    fi
    repository=$etc/apt/sources.list.d/docker.sources
    write_file "$repository" "$3"
}

write_docker_config() {
    if [ "$mode" = apply ] && [ -e "$DOCKER_CONFIG" ]; then cp -p "$DOCKER_CONFIG" "$DOCKER_CONFIG.before-ktrdr"; fi
    write_file "$DOCKER_CONFIG" "$1" "$2"
}

# Docker may wait for the share, so do not wait for its start. An interrupted run may have left daemon.json newer.
ensure_docker() {
    if ! systemctl is-active --quiet docker.service; then
        ! change "start Docker" || systemctl enable --quiet --now --no-block docker.service
        return 0
    fi
    began=$(TZ=UTC systemctl show --property ActiveEnterTimestamp --value docker.service)
    if [ "$written" != "$DOCKER_CONFIG" ] && [ "$(stat -c %Y "$DOCKER_CONFIG" || echo 0)" -le "$(date -d "$began" +%s)" ]; then
        return 0
    fi
    change "restart Docker, with $(docker ps --quiet | wc -l) running containers" || return 0
    systemctl restart docker.service && return 0
    [ "$written" = "$DOCKER_CONFIG" ] || refuse "Docker does not start with $DOCKER_CONFIG"
    mv "$DOCKER_CONFIG.before-ktrdr" "$DOCKER_CONFIG" || rm -f "$DOCKER_CONFIG"
    systemctl reset-failed docker.service
    systemctl start docker.service
    refuse "Docker did not start with the new $DOCKER_CONFIG; the former one is back"
}

ensure_user() {
    if getent passwd "$2" >/dev/null; then return 0; fi
    change "create the user $1 ($2), which cannot log in" || return 0
    getent group "$2" >/dev/null || groupadd --gid "$2" "$1"
    useradd --uid "$2" --gid "$2" --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

ensure_member() {
    id -nG "$1" | tr ' ' '\n' | grep -qx "$2" || ! change "add the user $1 to the group $2" ||
        usermod --append --groups "$2" "$1"
}

ensure_directory() {
    owner=${2:-root}
    if [ -d "$1" ] && { [ -z "$2" ] || [ "$(stat -c %u "$1")" = "$(id -u "$2" 2>/dev/null)" ]; }; then
        return 0
    fi
    change "set up the directory $1, owned by $owner" || return 0
    mkdir -p "$1"
    chown "$(id -u "$owner"):$(id -g "$owner")" "$1" ||
        refuse "$1 can be given to $owner only on the machine around this container"
}

# Load the rules before they are written, so that an interrupted run is repeated. nft loads all of them or none.
ensure_firewall() {
    nft list table inet ktrdr >/dev/null 2>&1 || echo "* load the firewall rules"
    if [ "$mode" = apply ]; then
        answer=$(printf '%s\n' "$1" | nft -f - 2>&1) || refuse "nftables cannot load the firewall rules" "$answer"
    fi
    write_file "$RULES" "$1"
    write_file "$UNITS/$FIREWALL" "$FIREWALL_SERVICE"
    systemctl is-enabled --quiet $FIREWALL 2>/dev/null || ! change "load the firewall rules at each start" ||
        systemctl enable --quiet --now $FIREWALL
}

ensure_share() {
    unit=$(systemd-escape --path --suffix=mount "$1")
    write_file "$UNITS/$unit" "$2"
    if systemctl is-enabled --quiet "$unit" 2>/dev/null && systemctl is-active --quiet "$unit"; then
        [ "$written" != "$UNITS/$unit" ] || echo "! $1 stays mounted as it is until the host restarts"
        return 0
    fi
    change "mount $1, now and before Docker starts" || return 0
    systemctl enable --quiet "$unit"
    code=0
    timeout 15 systemctl start "$unit" || code=$?
    case $code in
        0) ;;
        124) echo "! $1 is not mounted yet, because its server does not answer: systemd keeps trying, and Docker waits for it" ;;
        *) refuse "$1 cannot be mounted" "$(journalctl --unit "$unit" --output cat --since -30s)" ;;
    esac
}

ensure_recovery() {
    unit=$2-recovery.service
    write_file "$UNITS/$unit" "$(print_recovery_unit "$1" "$3")"
    systemctl is-enabled --quiet "$unit" 2>/dev/null || ! change "go on with a deploy after a restart of the host" ||
        systemctl enable --quiet "$unit"
}

# Stop and remove a unit. After this, Docker does not require it any more.
#   remove_unit UNIT CHANGE [FILE]
remove_unit() {
    [ -e "$UNITS/$1" ] || return 0
    change "$2" || return 0
    systemctl disable --quiet --now "$1"
    rm -f "$UNITS/$1" ${3:+"$3"}
    systemctl daemon-reload
}

main() {
    mode=$1
    shift
    while [ "$#" -gt 0 ]; do
        option=$1
        shift
        case $option in
            --packages) install_packages "$1" ;;
            --repository) add_repository "$1" "$2" "$3" ;;
            --docker-config) write_docker_config "$1" "$2" ;;
            --docker) ensure_docker ;;
            --user) ensure_user "$1" "$2" ;;
            --member) ensure_member "$1" "$2" ;;
            --directory) ensure_directory "$1" "$2" ;;
            --firewall) ensure_firewall "$1" ;;
            --share) ensure_share "$1" "$2" ;;
            --recovery) ensure_recovery "$1" "$2" "$3" ;;
            --no-firewall) remove_unit $FIREWALL "remove the firewall rules" "$RULES" ;;
            --no-share) remove_unit "$(systemd-escape --path --suffix=mount "$1")" "unmount $1; running containers keep it" ;;
            *) refuse_option "$option" ;;
        esac
        until [ "$#" = 0 ] || [ "${1#--}" != "$1" ]; do shift; done
    done
}

run() {
    main apply \
        --packages ca-certificates \
        --repository https://download.docker.com/linux/debian 1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570 '# Written by `ktrdr host prepare`.
Types: deb
URIs: https://download.docker.com/linux/debian
Suites: trixie
Components: stable
Signed-By: /etc/apt/keyrings/docker.asc' \
        --docker-config '{
  "log-driver": "json-file",
  "log-opts": {
    "max-file": "5",
    "max-size": "10m"
  }
}' '"log-driver": "json-file"
"log-opts": {"max-file": "5", "max-size": "10m"}' \
        --packages 'nftables, nfs-common, docker-ce, docker-ce-cli, containerd.io, docker-compose-plugin (>= 2.38.0)' \
        --docker \
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
        tcp dport { 5003, 5004, 5005, 5006, 5007, 5008 } ip saddr { 10.0.0.11 } accept
        tcp dport { 5003, 5004, 5005, 5006, 5007, 5008 } drop
    }
}' \
        --user ktrdr 10001 \
        --directory /opt/ktrdr-workers-b '' \
        --recovery /opt/ktrdr-workers-b ktrdr-workers root \
        --directory /mnt/ktrdr-shared '' \
        --share /mnt/ktrdr-shared '# Written by `ktrdr host prepare`, which also removes it (--undo).
[Unit]
Description=Directory that the hosts of KTRDR share
# The mount waits for its server, and Docker for the mount, so that no container starts with an empty directory
# in its place. With the default dependencies, logins of users would wait for it, too.
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
LazyUnmount=yes

[Install]
RequiredBy=docker.service'
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"
