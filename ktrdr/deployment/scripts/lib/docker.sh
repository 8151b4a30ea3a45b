# shellcheck shell=sh
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
