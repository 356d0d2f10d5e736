#!/bin/sh
# Makes sure that a browser can be driven: Chromium, Node.js, and two packages of npm below the cache of
# scripts/deps.sh, each compared with its hash. Prints the directory of the packages.
#
# Chromium is installed from Debian's packages where this runs as root and apt-get is there.
set -eu
umask 022

if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
	cache=/var/cache/migrator
else
	cache="${XDG_CACHE_HOME:-${HOME:?}/.cache}/migrator"
fi
dir=$cache/browser/node_modules

say() { printf '%s\n' "$*" >&2; }

# package NAME VERSION INTEGRITY: unpacked below the cache. Neither package has dependencies or runs a script.
package() {
	name=$1 version=$2 integrity=$3
	[ "$(cat "$dir/$name/.integrity" 2>/dev/null)" = "$integrity" ] && return 0
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && npm pack --silent "$name@$version" >/dev/null)
	got=sha512-$(openssl dgst -sha512 -binary "$work/$name-$version.tgz" | openssl base64 -A)
	if [ "$got" != "$integrity" ]; then
		say "$name $version has the hash $got, want $integrity"
		exit 1
	fi
	rm -rf "${dir:?}/$name"
	mkdir -p "$dir/$name"
	tar -xzf "$work/$name-$version.tgz" -C "$dir/$name" --strip-components 1 --no-same-owner
	printf '%s' "$integrity" >"$dir/$name/.integrity"
	rm -rf "$work"
	trap - EXIT
}

if ! command -v chromium >/dev/null 2>&1; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		say "installing chromium, by apt-get"
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core; } >&2
	else
		say "Chromium is not here. Try: apt-get install chromium     (as root)"
		exit 1
	fi
fi
for program in node npm openssl; do
	if ! command -v $program >/dev/null 2>&1; then
		say "$program is not here. Try: apt-get install nodejs npm openssl     (as root)"
		exit 1
	fi
done
package playwright-core 1.65.1 'sha512-hqPpz7blSMPxWVdoeE1yiBSzXsKiVOd2k+kjCvmUywD2GPO2Dd9HfcWnq9NN0GHbNZDFgZ9JfBFr+X5/BLo0qw=='
package axe-core 4.14.1 'sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=='
printf '%s\n' "$dir"
