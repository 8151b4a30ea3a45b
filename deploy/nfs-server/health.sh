#!/bin/sh
# Docker's HEALTHCHECK of the NFS server. A server that could not export the directory answers all
# the same, so the export is listed once after each start. From then on a call that does nothing is
# enough: every listing would leave one more client that a restarted server waits for in vain.
set -eu
if [ ! -e /run/exported ]; then
    nfs-ls 'nfs://127.0.0.1/srv/ktrdr-shared/?version=4' >/dev/null
    touch /run/exported
fi
# Address and port as RPC writes them: 127.0.0.1, and 2049 = 8 * 256 + 1.
rpcinfo -a 127.0.0.1.8.1 -T tcp 100003 4 >/dev/null
