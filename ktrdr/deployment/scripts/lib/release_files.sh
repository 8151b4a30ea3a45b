# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that include it
# Files of a release. Needs: stack.sh

# Print the archive of the release. A script that is sent redefines this function. If the script file is run
# by hand, the archive comes on standard input.
payload() { cat; }

# Run a command with each file in the managed directory that is not in the release.
#   each_obsolete_file COMMAND FILE...
each_obsolete_file() {
    obsolete_file_command=$1
    shift
    if [ -z "$managed_directory" ] || [ ! -d "$workdir/$managed_directory" ]; then
        return 0
    fi
    released=$newline
    for file; do released=$released$file$newline; done
    (cd "$workdir" && find "$managed_directory" -type f) | while IFS= read -r file; do
        case $released in
            *"$newline$file$newline"*) ;;
            *) "$obsolete_file_command" "$file" ;;
        esac
    done
}
