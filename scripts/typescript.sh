#!/bin/sh
# Compiles examples/typescript below the cache of scripts/deps.sh. Prints the directory of the compiled files.
#
# npm ci compares each package with its hash in package-lock.json, and no script of a package is run.
set -eu
umask 022

if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
	cache=/var/cache/migrator
else
	cache="${XDG_CACHE_HOME:-${HOME:?}/.cache}/migrator"
fi
dir=$cache/typescript

say() { printf '%s\n' "$*" >&2; }

for program in node npm; do
	if ! command -v $program >/dev/null 2>&1; then
		say "$program is not here. Try: apt-get install nodejs npm     (as root)"
		exit 1
	fi
done
if [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" != true ]; then
	say "Node.js $(node --version) is too old: want 20 or later. Try: npm install --global node@22.23.3"
	exit 1
fi
mkdir -p "$dir"
if ! cmp -s examples/typescript/package-lock.json "$dir/package-lock.json" || [ ! -e "$dir/installed" ]; then
	rm -f "$dir/installed"
	cp examples/typescript/package.json examples/typescript/package-lock.json "$dir"
	(cd "$dir" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2
	: >"$dir/installed"
fi
rm -rf "$dir/src" "$dir/dist"
cp -R examples/typescript/src examples/typescript/tsconfig.json "$dir"
(cd "$dir" && node node_modules/typescript/bin/tsc) >&2
printf '%s\n' "$dir/dist"
