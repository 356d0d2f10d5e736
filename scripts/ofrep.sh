#!/bin/sh
# Installs OpenFeature's SDKs and OFREP providers below the cache of scripts/deps.sh, with the programs of a test that use
# them, in JavaScript and in Go. Prints the directory. $1 is the go command, which compares modules with go.sum.
set -eu
. scripts/node.sh

dir=$cache/ofrep
from=internal/test/daemontest/testdata/ofrep
packages $from "$dir"
cp $from/node.mjs $from/page.html "$dir"
rm -f "$dir/ofrepclient"
if (cd internal/test/ofrepclient && "${1:-go}" mod download) >&2; then
	(cd internal/test/ofrepclient && "${1:-go}" build -o "$dir/ofrepclient" .) >&2
else
	say "OpenFeature's OFREP provider for Go can't be downloaded: going on without the client in Go"
fi
printf '%s\n' "$dir"
