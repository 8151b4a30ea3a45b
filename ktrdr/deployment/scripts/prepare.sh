#!/bin/sh
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

. ./lib/output.sh
FIREWALL_SERVICE=$(cat ./firewall.service)

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
    # shellcheck disable=SC2086 # several names
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

main "$@"
