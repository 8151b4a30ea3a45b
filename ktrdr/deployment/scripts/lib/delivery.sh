# shellcheck shell=sh
# How the present containers of a stack get their secrets.

# Print whether the files in memory that containers have mounted are there: a line for each consumer,
# "present NAME" or "absent NAME"; none where secrets are delivered another way.
#   print_delivery PROJECT SECRETS_DIRECTORY
print_delivery() {
    for consumer in $(
        docker ps --all \
            --filter "label=com.docker.compose.project=$1" \
            --filter "label=place.mynerd.ktrdr.secrets" \
            --format '{{.Label "place.mynerd.ktrdr.secrets"}}' | sort -u
    ); do
        if [ -d "$2/$consumer" ]; then
            echo "present $consumer"
        else
            echo "absent $consumer"
        fi
    done
}
