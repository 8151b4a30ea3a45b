#!/bin/sh
# Print facts about a host that is to be prepared, one "NAME=VALUE" per line, and change nothing.
#
# Usage: prepare_facts.sh SHARED UNIT UID [PEER...]
#   SHARED   directory that the containers share with other hosts
#   UNIT     name of the unit that mounts it
#   UID      user that the containers run as
#   PEER     name of a host whose addresses are needed
set -eu

. ./lib/facts.sh
. ./lib/docker.sh

# Print the distribution, and the kind of machine.
describe_system() {
    (
        ID='' VERSION_ID='' VERSION_CODENAME='' PRETTY_NAME=''
        # shellcheck source=/dev/null
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

main "$@"
