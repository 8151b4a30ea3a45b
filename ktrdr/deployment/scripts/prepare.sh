#!/bin/sh
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

. ./lib/output.sh
. ./lib/recovery_unit.sh
FIREWALL_SERVICE=$(cat ./firewall.service)
RECOVERY_UNIT_FILE=$(cat ./deploy-recovery.service)

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

main "$@"
