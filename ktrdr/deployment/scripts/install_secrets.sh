#!/bin/sh
# Write secrets into memory, as root of the host or of a container.
#
# Usage: install_secrets.sh DIRECTORY GROUP
# Standard input has a line "CONSUMER UID FILE VALUE" for each file, with the value in base64. GROUP may read
# the key of the fingerprints.
set -eu

# Replace FILE with FILE.new if their contents differ, and remove FILE.new.
#   replace FILE
replace() {
    if cmp -s "$1.new" "$1"; then
        rm -f "$1.new"
    else
        mv -f "$1.new" "$1"
    fi
}

main() {
    umask 022
    mkdir -p "$1"
    case $(stat -f -c %T "$1") in
        tmpfs | ramfs) ;;
        *)
            echo "$1 is not in memory" >&2
            exit 1
            ;;
    esac
    if [ ! -s "$1/key" ]; then
        (
            umask 077
            head -c 32 /dev/urandom | base64 | tr -d "\n" >"$1/key.new"
        )
        chgrp "$2" "$1/key.new"
        chmod 440 "$1/key.new"
        replace "$1/key"
    fi
    while read -r consumer uid name encoded; do
        mkdir -p "$1/$consumer"
        file=$1/$consumer/$name
        (
            umask 377
            rm -f "$file.new"
            printf "%s" "$encoded" | base64 -d >"$file.new"
        )
        chown "$uid" "$file.new"
        replace "$file"
    done
}

main "$@"
