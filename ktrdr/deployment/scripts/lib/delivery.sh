# shellcheck shell=sh
# Delivery of secrets to the current containers of a stack.

# Print "present NAME" or "absent NAME" for each consumer whose containers mount files in memory. With
# another delivery of secrets, print nothing.
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
