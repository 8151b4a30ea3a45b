# shellcheck shell=sh disable=SC2034,SC2154 # shares variables with the scripts that include it
# The stack that a script works on, and Compose's command line for it. Needs: output.sh, hooks.sh
#
# Options of each script that works on a stack:
#   --project NAME        Compose project of the stack
#   --workdir DIRECTORY   directory of its configuration, and base of relative paths in it
#   --compose-file FILE   compose file of the release; the first, then those that override it
#   --env-file FILE       file with its settings
#   --profile PROFILE     selected profile
#   --service SERVICE     service that the script works on
#   --only SERVICE        the only service to deploy
#   --dependency SERVICE  service that the only one depends on
#   --surplus SERVICE     service to remove
#   --managed-directory DIRECTORY  directory in which files that are not in the release are removed
#   --secrets-delivery env|tmpfs   delivery of secrets to its containers
#   --secrets-directory DIRECTORY  directory of their secrets in the host's memory, with tmpfs
#   --secrets-image IMAGE          image with a shell, which the host has once images are pulled
#   --further-secret NAME          secret variable of the inventory, which our own services have
# An option may be left out, and repeated for several values.

newline='
'
project='' workdir='' compose_files='' env_file='' profiles=''
services='' only='' dependencies='' surplus='' managed_directories=''
secrets_delivery=env secrets_directory='' secrets_image='' further_secrets=''

# Set one of these options, or pass it to the hook stack_option.
#   common_option OPTION VALUE
common_option() {
    case $1 in
        --project) project=$2 ;;
        --workdir) workdir=$2 ;;
        # In reverse order, because `compose` puts each before the others.
        --compose-file) compose_files="$2 $compose_files" ;;
        --env-file) env_file=$2 ;;
        --profile) profiles="$2 $profiles" ;;
        --service) services="$services $2" ;;
        --only) only=$2 ;;
        --dependency) dependencies="$dependencies $2" ;;
        --surplus) surplus="$surplus $2" ;;
        --managed-directory) managed_directories="$managed_directories $2" ;;
        --secrets-delivery) secrets_delivery=$2 ;;
        --secrets-directory) secrets_directory=$2 ;;
        --secrets-image) secrets_image=$2 ;;
        --further-secret) further_secrets="$further_secrets $2" ;;
        *) stack_option "$1" "$2" ;;
    esac
}

# Return whether the script works on a service.
#   has_service SERVICE
has_service() {
    case " $services " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# Return whether containers read secrets from files in memory.
secrets_are_in_memory() {
    [ "$secrets_delivery" = tmpfs ]
}

# Run Compose on the stack with the files in $release, which are staged or in their place.
#   compose COMMAND...
compose() {
    for profile in $profiles; do set -- --profile "$profile" "$@"; done
    set -- --env-file "$release/$env_file" "$@"
    for file in $compose_files; do set -- -f "$release/$file" "$@"; done
    docker compose -p "$project" --project-directory "$workdir" "$@"
}

# Print "SERVICE HASH" for each service, with the hash of its configuration.
print_hashes() {
    compose config --hash '*'
}
