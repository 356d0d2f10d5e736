#!/bin/sh
# Installs OpenFeature's SDKs and OFREP providers below the cache of scripts/deps.sh, with the programs of a test that use
# them, in JavaScript and in Go. Prints the directory. $1 is the go command.
#
# npm ci compares each package with its hash in package-lock.json, and no script of a package is run; go does by go.sum.
set -eu
umask 022

if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
	cache=/var/cache/migrator
else
	cache="${XDG_CACHE_HOME:-${HOME:?}/.cache}/migrator"
fi
dir=$cache/ofrep
from=internal/test/daemontest/testdata/ofrep

for program in node npm; do
	if ! command -v $program >/dev/null 2>&1; then
		printf '%s\n' "$program is not here. Try: apt-get install nodejs npm     (as root)" >&2
		exit 1
	fi
done
if [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" != true ]; then
	printf '%s\n' "Node.js $(node --version) is too old: want 20 or later. Try: npm install --global node@22.23.3" >&2
	exit 1
fi
mkdir -p "$dir"
if ! cmp -s $from/package-lock.json "$dir/package-lock.json" || [ ! -e "$dir/installed" ]; then
	rm -f "$dir/installed"
	cp $from/package.json $from/package-lock.json "$dir"
	(cd "$dir" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2
	: >"$dir/installed"
fi
cp $from/node.mjs $from/page.html "$dir"
rm -f "$dir/ofrepclient"
if (cd internal/test/ofrepclient && "${1:-go}" mod download) >&2; then
	(cd internal/test/ofrepclient && "${1:-go}" build -o "$dir/ofrepclient" .) >&2
else
	printf '%s\n' "OpenFeature's OFREP provider for Go can't be downloaded: going on without the client in Go" >&2
fi
printf '%s\n' "$dir"
