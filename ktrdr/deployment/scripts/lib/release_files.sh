# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that include it
# The files of a release. Needs: stack.sh

# Print the archive of the release. The one of a script that is sent stands behind this; where it is run
# by hand, the archive comes on standard input.
payload() { cat; }

# Run a command with each file in the managed directory, if there is one, that the release does not have.
#   each_leftover COMMAND FILE...
each_leftover() {
    leftover_command=$1
    shift
    if [ -z "$managed_directory" ] || [ ! -d "$workdir/$managed_directory" ]; then
        return 0
    fi
    released=$newline
    for file; do released=$released$file$newline; done
    (cd "$workdir" && find "$managed_directory" -type f) | while IFS= read -r file; do
        case $released in
            *"$newline$file$newline"*) ;;
            *) "$leftover_command" "$file" ;;
        esac
    done
}
