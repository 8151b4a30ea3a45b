# shellcheck shell=sh
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
