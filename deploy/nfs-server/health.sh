#!/bin/sh
# Docker HEALTHCHECK of the NFS server. A server that could not export the directory still answers calls,
# so the first check after each start lists the export. Later checks make a call that does nothing,
# because every listing leaves a client behind that a restarted server waits for in vain.
set -eu
if [ ! -e /run/exported ]; then
    nfs-ls 'nfs://127.0.0.1/srv/ktrdr-shared/?version=4' >/dev/null
    touch /run/exported
fi
# Address and port in RPC notation: 127.0.0.1, and 2049 = 8 * 256 + 1.
rpcinfo -a 127.0.0.1.8.1 -T tcp 100003 4 >/dev/null
