# shellcheck shell=sh
# What an interrupted Compose has left half done. Needs: project.sh

# End it. To recreate a container, Compose makes the new one under the name OLDID_NAME, stops and
# removes the old one, and renames the new one. Interrupted in between, it leaves a service stopped,
# and stumbles over its own leftover the next time. So where both are there, the new one goes; where
# the old one is gone, the new one takes its place. With "start", what is left of the two is started.
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
        # One that cannot be started does not keep Compose from the others.
        [ "${2-}" != start ] || docker start "${name#*_}" || :
    done
}
