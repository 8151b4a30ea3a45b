# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that include it
# Files of a release. Needs: stack.sh

# Print the archive of the release. A script that is sent redefines this function. If the script file is run
# by hand, the archive comes on standard input.
payload() { cat; }

# Run a command with each file in a managed directory that is not in the release.
#   each_obsolete_file COMMAND FILE...
each_obsolete_file() {
    obsolete_file_command=$1
    shift
    released=$newline
    for file; do released=$released$file$newline; done
    for directory in $managed_directories; do
        [ ! -d "$workdir/$directory" ] || (cd "$workdir" && find "$directory" -type f)
    done | while IFS= read -r file; do
        case $released in
            *"$newline$file$newline"*) ;;
            *) "$obsolete_file_command" "$file" ;;
        esac
    done
}
