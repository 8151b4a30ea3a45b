#!/bin/sh
# Print the files of a host that differ from those of a kept configuration: "~ FILE" for another content,
# "- FILE" for one that is gone, and "+ FILE" for one in the managed directory that the release did not bring.
#
# Usage: changed_files.sh WORKDIR CONFIGURATION [MANAGED_DIRECTORY]
# CONFIGURATION is the hash of its files. Outside MANAGED_DIRECTORY the operator may keep what they like.
set -eu

. ./lib/output.sh

# Read what `tar --compare` says.
read_differences() {
    sed -n \
        -e 's/^\(.*\): \(Contents differ\|Size differs\)$/~ \1/p' \
        -e 's/^tar: \(.*\): Warning: Cannot stat: .*$/- \1/p' |
        sort -u
}

# Print the files of a directory that an archive does not have.
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
        if [ -n "${3-}" ] && [ -d "$3" ]; then
            print_new_files "$archive" "$3"
        fi
    fi
}

main "$@"
