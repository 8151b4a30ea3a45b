# shellcheck shell=sh disable=SC2034,SC2154 # shares variables with the scripts that include it
# The stack that a script is about, and Compose's command line for it. Needs: output.sh, hooks.sh
#
# Options of every script that deals with a stack:
#   --project NAME        its Compose project
#   --workdir DIRECTORY   where its configuration is, and what relative paths in it start from
#   --compose-file FILE   a compose file of the release; the first, then those that override it
#   --env-file FILE       the file with its settings
#   --profile PROFILE     a profile that is chosen
#   --service SERVICE     a service that the script is about
#   --only SERVICE        the same, where it is the only one that was asked for
#   --dependency SERVICE  a service that the only one depends on
#   --surplus SERVICE     a service that is to be removed
#   --managed-directory DIRECTORY  a directory in which files that are no part of the release are removed
#   --secrets-delivery env|tmpfs   how its containers get their secrets
#   --secrets-directory DIRECTORY  where their secrets are in the host's memory, with tmpfs
#   --secrets-image IMAGE          an image with a shell that the host has once images are pulled
# An option is left out where there is nothing to say, and repeated for several values.

newline='
'
project='' workdir='' compose_files='' env_file='' profiles=''
services='' only='' dependencies='' surplus='' managed_directory=''
secrets_delivery=env secrets_directory='' secrets_image=''

# Take one of these options, or pass it on to the hook stack_option.
#   common_option OPTION VALUE
common_option() {
    case $1 in
        --project) project=$2 ;;
        --workdir) workdir=$2 ;;
        # The last one first, since `compose` puts each before all others.
        --compose-file) compose_files="$2 $compose_files" ;;
        --env-file) env_file=$2 ;;
        --profile) profiles="$2 $profiles" ;;
        --service) services="$services $2" ;;
        --only) only=$2 ;;
        --dependency) dependencies="$dependencies $2" ;;
        --surplus) surplus="$surplus $2" ;;
        --managed-directory) managed_directory=$2 ;;
        --secrets-delivery) secrets_delivery=$2 ;;
        --secrets-directory) secrets_directory=$2 ;;
        --secrets-image) secrets_image=$2 ;;
        *) stack_option "$1" "$2" ;;
    esac
}

# Tell whether the script is about a service.
#   has_service SERVICE
has_service() {
    case " $services " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# Tell whether the stack gets its secrets as files in memory.
secrets_are_in_memory() {
    [ "$secrets_delivery" = tmpfs ]
}

# Run Compose on the stack, as the files in $release describe it: those in place, or staged ones. Its
# command line names project, files and directory.
#   compose COMMAND...
compose() {
    for profile in $profiles; do set -- --profile "$profile" "$@"; done
    set -- --env-file "$release/$env_file" "$@"
    for file in $compose_files; do set -- -f "$release/$file" "$@"; done
    docker compose -p "$project" --project-directory "$workdir" "$@"
}

# Print "SERVICE HASH" for each service; the hash covers its configuration.
print_hashes() {
    compose config --hash '*'
}
