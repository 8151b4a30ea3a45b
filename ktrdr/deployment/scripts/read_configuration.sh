#!/bin/sh
# Print the archive of a kept configuration in base64; nothing where the host does not keep it.
#
# Usage: read_configuration.sh WORKDIR CONFIGURATION
# CONFIGURATION is the hash of its files.
set -eu

main() {
    archive=$1/.ktrdr/releases/$2.tar.gz
    [ ! -e "$archive" ] || base64 "$archive"
}

main "$@"
