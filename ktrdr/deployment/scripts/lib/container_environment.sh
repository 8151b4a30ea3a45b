# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that include it
# Environment of a stack's containers. Needs: stack.sh

# Set $environment to the variables of a container, between marks that no value contains.
#   read_environment CONTAINER
read_environment() {
    [ -n "${mark-}" ] || read -r mark </proc/sys/kernel/random/uuid
    environment=$(
        docker container inspect --format "{{range .Config.Env}}$mark{{.}}{{end}}$mark" "$1" 2>/dev/null || :
    )
}

# Set $value to the value of a variable in $environment. If the container reads it from a file, read this
# file in the host's memory or, if only root may do that, in the backend's container.
#   read_variable NAME
read_variable() {
    case $environment in
        *"$mark$1="*)
            value=${environment#*"$mark$1="}
            value=${value%%"$mark"*}
            ;;
        *"$mark$1_FILE="*)
            read_variable "$1_FILE"
            value=$(
                { cat "$secrets_directory/backend/${value##*/}" ||
                    docker exec "$project-backend-1" cat "$value" || :; } 2>/dev/null
                # Protect line ends at the end, which a substitution removes.
                echo x
            )
            value=${value%x}
            ;;
        *) value= ;;
    esac
}

# Export variables of $environment under their names.
#   export_variables NAME...
export_variables() {
    for variable; do
        read_variable "$variable"
        export "$variable=$value"
    done
}
