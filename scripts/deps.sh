#!/bin/sh
# Makes sure that PostgreSQL (initdb, postgres) and redis-server are on this machine,
# for private servers of tests and of the demo. Says nothing when they are.
#
# Debian, Ubuntu: with root or passwordless sudo by apt-get, starting no service;
# without, the packages are unpacked below ~/.cache/migrator/deb. macOS: brew.
#
# Prometheus and promtool, which some tests ask, are never installed: on
# Debian their package is unpacked below ~/.cache/migrator/prometheus. Where they
# can't be had, those tests skip.
#
# MIGRATOR_DEPS_FORCE=user unpacks packages even where servers are installed.
set -eu

cache="${XDG_CACHE_HOME:-${HOME:?}/.cache}/migrator"
root="$cache/deb"

say() { printf '%s\n' "$*" >&2; }

# found PROGRAM DIRECTORY...: on PATH or in one of the directories, and it runs.
found() {
	program=$1
	shift
	for dir in "$@"; do
		[ -x "$dir/$program" ] && runs "$dir/$program" && return 0
	done
	[ -z "${MIGRATOR_DEPS_FORCE:-}" ] && command -v "$program" >/dev/null 2>&1
}

runs() {
	case $1 in
	"$root"/*) LD_LIBRARY_PATH=$(libraries) "$1" --version >/dev/null 2>&1 ;;
	*) "$1" --version >/dev/null 2>&1 ;;
	esac
}

# libraries: the library path of what is unpacked; internal/test/testenv builds the same.
libraries() {
	path=
	for dir in "$root"/usr/lib/*-linux-gnu* "$root"/lib/*-linux-gnu* "$root/usr/lib" "$root/lib"; do
		[ -d "$dir" ] && path="${path:+$path:}$dir"
	done
	printf '%s' "$path"
}

have_all() {
	if [ -n "${MIGRATOR_DEPS_FORCE:-}" ]; then
		found initdb "$root"/usr/lib/postgresql/*/bin && found redis-server "$root/usr/bin"
	else
		found initdb /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/bin /usr/local/pgsql/bin \
			/opt/homebrew/opt/postgresql*/bin /opt/homebrew/bin /usr/local/opt/postgresql*/bin \
			"$root"/usr/lib/postgresql/*/bin &&
			found redis-server /usr/bin /usr/local/bin /opt/homebrew/bin /opt/homebrew/opt/redis/bin \
				/usr/local/opt/redis/bin "$root/usr/bin"
	fi
}

give_up() {
	say "PostgreSQL and Redis could not be installed here: $1"
	say "Try: apt-get install postgresql redis-server     (as root; they need not be running)"
	say " or: brew install postgresql@17 redis            (macOS)"
	say " or: export MIGRATOR_TEST_POSTGRES_URL=postgres://user:password@host/db MIGRATOR_TEST_REDIS_URL=redis://host:6379"
	exit 1
}

# As root. The packages would start their services: a policy that says no is put in
# place for as long as this takes, unless the machine has one of its own.
install_as_root() {
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		trap 'exit 130' INT TERM
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update >/dev/null || say "apt-get update failed; trying with the package lists that are here"
	apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends postgresql redis-server >/dev/null
}

# As an ordinary user: download what an installation would, and unpack it.
unpack_as_user() {
	command -v dpkg-deb >/dev/null 2>&1 || give_up "there is no dpkg-deb"
	work="$cache/apt"
	rm -rf "$work"
	mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/deb"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	status=/var/lib/dpkg/status
	if [ -n "${MIGRATOR_DEPS_FORCE:-}" ]; then # as if they and their libraries were not there
		status="$work/status"
		awk 'BEGIN { RS = ""; ORS = "\n\n" }
			!/^Package: (postgresql|redis|libpq|python3-psycopg|liblzf1|libjemalloc|liblua5|lua-|libhiredis)/' \
			/var/lib/dpkg/status >"$status"
	fi
	say "Downloading PostgreSQL and Redis packages into $root ..."
	export APT_CONFIG="$work/apt.conf"
	settings() {
		printf 'Dir::Cache "%s";\nDir::State::status "%s";\nDebug::NoLocking "1";\nAPT::Sandbox::User "";\n' "$work" "$status"
	}
	# Lists of our own: a container often has none, and they are root's to update.
	{ settings; printf 'Dir::State::Lists "%s/lists";\n' "$work"; } >"$APT_CONFIG"
	apt-get -qq update >/dev/null 2>&1 || settings >"$APT_CONFIG"
	packages=$(apt-get -s install --no-install-recommends postgresql redis-server 2>"$work/errors" |
		sed -n 's/^Inst \([^ ]*\) .*/\1/p' | wanted) || true
	[ -n "$packages" ] || give_up "apt-get would not install postgresql and redis-server: $(tail -n 1 "$work/errors")"
	# shellcheck disable=SC2086 # one word per package
	(cd "$work/deb" && apt-get -qq download $packages >/dev/null 2>"$work/errors") ||
		give_up "apt-get download failed: $(tail -n 1 "$work/errors")"
	# Complete or not at all: what is at $root is taken to work.
	rm -rf "$root.new"
	mkdir -p "$root.new"
	for deb in "$work"/deb/*.deb; do dpkg-deb -x "$deb" "$root.new"; done
	rm -rf "$root"
	mv "$root.new" "$root"
}

# wanted drops what the two programs run without: the just-in-time compiler (most of
# the download) and the scripts of the distribution.
wanted() {
	grep -Ev '^(libllvm|libz3|libedit|libbsd|libmd[0-9]|postgresql-(client-)?common$|postgresql$|ssl-cert|netbase|perl|libperl|lib.*-perl$|sensible-utils|ucf|adduser|lsb-base|logrotate|cron|init-system|sysvinit|procps|debconf|tzdata|locales)'
}

# The packages' installation would start a server on port 9090, and root needs none either.
watchers() {
	places="/usr/bin /usr/local/bin /opt/homebrew/bin $cache/prometheus/usr/bin"
	# shellcheck disable=SC2086 # one word per directory
	found promtool $places && found prometheus $places && return 0
	case $(uname -s) in
	Darwin)
		{ command -v brew >/dev/null 2>&1 && brew install --quiet prometheus >&2; } || without "brew has none"
		return 0
		;;
	esac
	{ command -v apt-get && command -v dpkg-deb; } >/dev/null 2>&1 || { without "there is no apt-get"; return 0; }
	say "Unpacking Prometheus below $cache/prometheus (nothing is installed or started) ..."
	(unpack_watchers) || without "apt-get could not download it"
}

without() { say "Prometheus is not here: $1; tests that ask one skip. Try: put prometheus and promtool on PATH"; }

unpack_watchers() {
	work="$cache/apt-prometheus"
	rm -rf "$work" "$cache/prometheus.new"
	mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/deb" "$cache/prometheus.new"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	download() { (cd "$work/deb" && apt-get -qq -o APT::Sandbox::User= download prometheus >/dev/null 2>&1); }
	if ! download; then # a container often has no lists of packages, and they are root's to update
		export APT_CONFIG="$work/apt.conf"
		printf 'Dir::Cache "%s";\nDir::State::Lists "%s/lists";\nDebug::NoLocking "1";\nAPT::Sandbox::User "";\n' "$work" "$work" >"$APT_CONFIG"
		apt-get -qq update >/dev/null 2>&1 && download || return 1
	fi
	for deb in "$work"/deb/*.deb; do dpkg-deb -x "$deb" "$cache/prometheus.new" || return 1; done
	rm -rf "$cache/prometheus" && mv "$cache/prometheus.new" "$cache/prometheus"
}

main() {
	[ "${1:-}" = servers ] || watchers
	if have_all; then exit 0; fi
	case $(uname -s) in
	Darwin)
		command -v brew >/dev/null 2>&1 || give_up "there is no brew"
		say "Installing PostgreSQL and Redis with brew ..."
		brew install --quiet postgresql@17 redis >&2 || give_up "brew failed"
		;;
	*)
		command -v apt-get >/dev/null 2>&1 || give_up "there is no apt-get"
		if [ "${MIGRATOR_DEPS_FORCE:-}" = user ]; then
			unpack_as_user
		elif [ "$(id -u)" = 0 ]; then
			say "Installing PostgreSQL and Redis with apt-get (no service is started) ..."
			(install_as_root) || give_up "apt-get failed"
		elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
			sudo -n HOME="$HOME" sh "$0" servers || give_up "apt-get failed with sudo"
		else
			unpack_as_user
		fi
		;;
	esac
	have_all || give_up "they were installed but do not run"
}

main "$@"
