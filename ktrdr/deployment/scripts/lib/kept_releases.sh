# shellcheck shell=sh
# Configurations that a host keeps, in WORKDIR/.ktrdr/releases.

# Write the files of the work directory to the archive of their configuration. An archive that is not empty is
# not replaced. Needs: events.sh
#   keep_configuration WORKDIR CONFIGURATION FILE...
keep_configuration() {
    archive=$1/.ktrdr/releases/$2.tar.gz
    directory=$1
    shift 2
    if [ ! -s "$archive" ]; then
        mkdir -p "$directory/.ktrdr/releases" &&
            tar -czf "$archive.partial" -C "$directory" "$@" &&
            flush "$archive.partial"
        mv -f "$archive.partial" "$archive"
    fi
}
