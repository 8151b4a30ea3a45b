#!/bin/sh
# Print facts about a host that is to be prepared, one "NAME=VALUE" per line, and change nothing.
#
# Usage: prepare_facts.sh WORKDIR SHARED [PEER...]
#   WORKDIR  work directory of the stack
#   SHARED   directory that the containers share with other hosts
#   PEER     name of a host whose addresses are needed
set -eu

. ./lib/facts.sh
. ./lib/docker.sh

# Print the distribution, and the kind of machine.
describe_system() {
    (
        ID='' VERSION_CODENAME='' PRETTY_NAME=''
        # shellcheck source=/dev/null
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

main "$@"
