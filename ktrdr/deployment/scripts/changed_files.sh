#!/bin/sh
# Print the files of a host that differ from a kept configuration: "~ FILE" for another content, "- FILE"
# for a missing file, and "+ FILE" for a file in a managed directory that is not in the release.
#
# Usage: changed_files.sh WORKDIR CONFIGURATION [MANAGED_DIRECTORY]...
# CONFIGURATION is the hash of its files. Outside these directories the operator may keep other files.
set -eu

. ./lib/output.sh

# Convert the output of `tar --compare`, which comes on standard input.
read_differences() {
    sed -n \
        -e 's/^\(.*\): \(Contents differ\|Size differs\)$/~ \1/p' \
        -e 's/^tar: \(.*\): Warning: Cannot stat: .*$/- \1/p' |
        sort -u
}

# Print the files of a directory that an archive does not contain.
#   print_new_files ARCHIVE DIRECTORY
print_new_files() {
    newline='
'
    released=$newline$(tar -tzf "$1")$newline
    find "$2" -type f | while IFS= read -r file; do
        case $released in
            *"$newline$file$newline"*) ;;
            *) printf '+ %s\n' "$file" ;;
        esac
    done
}

main() {
    archive=$1/.ktrdr/releases/$2.tar.gz
    section files
    if [ -e "$archive" ]; then
        cd "$1"
        LC_ALL=C tar -dzf "$archive" 2>&1 | read_differences
        shift 2
        for directory; do
            [ ! -d "$directory" ] || print_new_files "$archive" "$directory"
        done
    fi
}

main "$@"
