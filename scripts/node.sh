# shellcheck shell=sh
# Read by scripts that run programs in Node.js: the cache of scripts/deps.sh as $cache, and packages. Fails without Node.js 20.
#
# npm ci compares each package with its hash in package-lock.json, and no script of a package is run.
umask 022

if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
	cache=/var/cache/migrator
else
	cache="${XDG_CACHE_HOME:-${HOME:?}/.cache}/migrator"
fi

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

# packages FROM DIR: the packages of FROM/package-lock.json into DIR, unless they are there.
packages() {
	mkdir -p "$2"
	if ! cmp -s "$1/package-lock.json" "$2/package-lock.json" || [ ! -e "$2/installed" ]; then
		rm -f "$2/installed"
		cp "$1/package.json" "$1/package-lock.json" "$2"
		(cd "$2" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2
		: >"$2/installed"
	fi
}
