#!/bin/sh
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

main "$@"
