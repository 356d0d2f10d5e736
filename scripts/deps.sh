#!/bin/sh
# Makes sure that PostgreSQL (initdb, postgres) and redis-server are on this machine,
# for private servers of tests and of the demo. Says nothing when they are.
#
# Debian, Ubuntu: their packages are downloaded and unpacked below a cache, for root as
# for others: nothing is installed into the system, no service is started or enabled.
# The cache is ~/.cache/migrator; root's is /var/cache/migrator, since PostgreSQL does
# not run as root and no other account reads root's home. `make clean` empties it.
# macOS: brew installs them, and starts no service.
#
# Prometheus, Alertmanager, promtool, amtool and PgBouncer, which some tests ask, are unpacked in
# the same way. Where they can't be had, those tests skip.
#
# It says first what it is about to do, and on a terminal asks. MIGRATOR_DEPS_YES=1 is the
# answer yes; without a terminal it goes on.
#
# deps.sh clean          removes what is there, and the data directories that tests cache.
# MIGRATOR_DEPS_FORCE=1  unpacks packages even where servers are installed.
set -eu
umask 022 # another account runs root's servers

# cache: internal/test/testenv has the same rule.
if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
	cache=/var/cache/migrator
else
	cache="${XDG_CACHE_HOME:-${HOME:?}/.cache}/migrator"
fi
force=${MIGRATOR_DEPS_FORCE:-}

say() { printf '%s\n' "$*" >&2; }

# found ROOT PROGRAM DIRECTORY...: the program is below ROOT, on PATH or in one of the
# directories, and runs.
found() {
	root=$1 program=$2
	shift 2
	for file in "$root/usr/bin/$program" "$root/usr/sbin/$program" "$root"/usr/lib/postgresql/*/bin/"$program"; do
		[ -x "$file" ] && LD_LIBRARY_PATH=$(libraries "$root") "$file" --version >/dev/null 2>&1 && return 0
	done
	[ -z "$force" ] || return 1
	for dir in "$@"; do
		[ -x "$dir/$program" ] && "$dir/$program" --version >/dev/null 2>&1 && return 0
	done
	command -v "$program" >/dev/null 2>&1
}

# libraries: the library path of what is unpacked; testenv builds the same.
libraries() {
	path=
	for dir in "$1"/usr/lib/*-linux-gnu* "$1"/lib/*-linux-gnu* "$1/usr/lib" "$1/lib"; do
		[ -d "$dir" ] && path="${path:+$path:}$dir"
	done
	printf '%s' "$path"
}

have_servers() {
	found "$cache/deb" initdb /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/bin /usr/local/pgsql/bin \
		/opt/homebrew/opt/postgresql*/bin /opt/homebrew/bin /usr/local/opt/postgresql*/bin &&
		found "$cache/deb" redis-server /usr/bin /usr/local/bin /opt/homebrew/bin /opt/homebrew/opt/redis/bin \
			/usr/local/opt/redis/bin
}

have_prometheus() {
	found "$cache/prometheus" promtool /usr/bin /usr/local/bin /opt/homebrew/bin &&
		found "$cache/prometheus" prometheus /usr/bin /usr/local/bin /opt/homebrew/bin
}

have_pgbouncer() {
	found "$cache/pgbouncer" pgbouncer /usr/sbin /usr/bin /usr/local/bin /opt/homebrew/bin
}

# Debian names the program prometheus-alertmanager.
have_alertmanager() {
	found "$cache/alertmanager" amtool /usr/bin /usr/local/bin /opt/homebrew/bin || return 1
	found "$cache/alertmanager" prometheus-alertmanager /usr/bin || found "$cache/alertmanager" alertmanager /usr/bin /usr/local/bin /opt/homebrew/bin
}

give_up() {
	say "PostgreSQL and Redis are not here: $1"
	say "Try: apt-get install postgresql redis-server     (as root; they need not be running)"
	say " or: brew install postgresql@17 redis            (macOS)"
	say " or: export MIGRATOR_TEST_POSTGRES_URL=postgres://user:password@host/db MIGRATOR_TEST_REDIS_URL=redis://host:6379"
	exit 1
}

without_prometheus() {
	say "Prometheus is not here: $1; tests that ask one skip. Try: put prometheus and promtool on PATH"
}

without_pgbouncer() {
	say "PgBouncer is not here: $1; tests that ask one skip. Try: put pgbouncer on PATH"
}

without_alertmanager() {
	say "Alertmanager is not here: $1; tests that ask one skip. Try: put alertmanager and amtool on PATH"
}

# agreed WHAT: says it, and asks on a terminal.
agreed() {
	say "$1"
	[ -z "${MIGRATOR_DEPS_YES:-}" ] && [ -t 0 ] && [ -t 2 ] || return 0
	printf 'Go on? [y/N] (MIGRATOR_DEPS_YES=1 answers yes) ' >&2
	read -r answer || return 1
	case $answer in [yY] | [yY][eE][sS]) ;; *) return 1 ;; esac
}

# unpack ROOT PACKAGE...: downloads the packages with what an installation would add to
# this machine, and unpacks them. It prints why it can't.
unpack() {
	root=$1
	shift
	status=/var/lib/dpkg/status
	if [ -n "$force" ]; then # as if they and their libraries were not there
		status="$work/status"
		awk 'BEGIN { RS = ""; ORS = "\n\n" }
			!/^Package: (postgresql|redis|libpq|python3-psycopg|liblzf1|libjemalloc|liblua5|lua-|libhiredis|prometheus|pgbouncer|libc-ares|libevent)/' \
			/var/lib/dpkg/status >"$status"
	fi
	settings >"$APT_CONFIG"
	packages=$(apt-get -s install --no-install-recommends "$@" 2>"$work/errors" |
		sed -n 's/^Inst \([^ ]*\) .*/\1/p' | wanted) || true
	[ -n "$packages" ] || { printf 'apt-get would not install %s: %s' "$*" "$(tail -n 1 "$work/errors")"; return 1; }
	rm -rf "$work/deb" "$root.new"
	mkdir -p "$work/deb" "$root.new"
	# shellcheck disable=SC2086 # one word per package
	(cd "$work/deb" && apt-get -qq download $packages >/dev/null 2>"$work/errors") ||
		{ printf 'apt-get download failed: %s' "$(tail -n 1 "$work/errors")"; return 1; }
	for deb in "$work"/deb/*.deb; do
		dpkg-deb -x "$deb" "$root.new" || { printf 'dpkg-deb failed'; return 1; }
	done
	# Complete or not at all: what is at $root is taken to work.
	rm -rf "$root"
	mv "$root.new" "$root"
}

# relocate PROGRAM: Debian's Alertmanager reads its templates at a path that is compiled in. One of the same
# length, relative, lets it read them in the directory that it is started in.
relocate() {
	LC_ALL=C sed 's#/usr/share/prometheus/alertmanager#./././././././././././././././././#g' "$1" >"$1.new" && chmod 755 "$1.new" && mv "$1.new" "$1" ||
		{ printf 'its program could not be changed'; return 1; }
}

# settings of apt, for lists of our own: a container often has none, and they are root's to update.
settings() {
	printf 'Dir::Cache "%s";\nDir::State::status "%s";\nDebug::NoLocking "1";\nAPT::Sandbox::User "";\n' "$work" "$status"
	[ -n "$system_lists" ] || printf 'Dir::State::Lists "%s/lists";\n' "$work"
}

# wanted drops what the programs run without: the just-in-time compiler (most of the
# download) and the scripts of the distribution.
wanted() {
	grep -Ev '^(libllvm|libz3|libedit|libbsd|libmd[0-9]|postgresql-(client-)?common$|postgresql$|ssl-cert|netbase|perl|libperl|lib.*-perl$|sensible-utils|ucf|adduser|lsb-base|logrotate|cron|init-system|sysvinit|procps|debconf|tzdata|locales|prometheus-node-exporter|daemon$|libjs-|fonts-|node-)'
}

with_apt() {
	command -v apt-get >/dev/null 2>&1 || give_up "there is no apt-get"
	command -v dpkg-deb >/dev/null 2>&1 || give_up "there is no dpkg-deb"
	agreed "Unpacking$missing below $cache, from packages (nothing is installed into the system or started) ..." ||
		give_up "not agreed"
	mkdir -p "$cache"
	# One at a time. A killed run holds no lock, and the next one removes what it left.
	if command -v flock >/dev/null 2>&1; then
		exec 9>"$cache/deps.lock"
		flock 9
	fi
	work="$cache/apt"
	rm -rf "$work" "$cache"/*.new
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	mkdir -p "$work/lists/partial" "$work/archives/partial"
	export APT_CONFIG="$work/apt.conf"
	status=/var/lib/dpkg/status system_lists=
	settings >"$APT_CONFIG"
	apt-get -qq update >/dev/null 2>&1 || system_lists=yes
	if ! have_servers; then
		why=$(unpack "$cache/deb" postgresql redis-server) || give_up "$why"
	fi
	if ! have_prometheus; then
		why=$(unpack "$cache/prometheus" prometheus) || without_prometheus "$why"
	fi
	if ! have_pgbouncer; then
		why=$(unpack "$cache/pgbouncer" pgbouncer) || without_pgbouncer "$why"
	fi
	if ! have_alertmanager; then
		why=$(unpack "$cache/alertmanager" prometheus-alertmanager && relocate "$cache/alertmanager/usr/bin/prometheus-alertmanager") || without_alertmanager "$why"
	fi
}

with_brew() {
	command -v brew >/dev/null 2>&1 || give_up "there is no brew"
	agreed "Installing$missing with brew (no service is started) ..." || give_up "not agreed"
	have_servers || brew install --quiet postgresql@17 redis >&2 || give_up "brew failed"
	have_prometheus || brew install --quiet prometheus >&2 || without_prometheus "brew failed"
	have_pgbouncer || brew install --quiet pgbouncer >&2 || without_pgbouncer "brew failed"
	have_alertmanager || brew install --quiet alertmanager >&2 || without_alertmanager "brew failed"
}

if [ "${1:-}" = clean ]; then # not migrator's own files in a user's cache
	rm -rf "$cache/deb" "$cache/matrix" "$cache/prometheus" "$cache/alertmanager" "$cache/pgbouncer" "$cache/pgdata" "$cache/apt" "$cache"/*.new "$cache/deps.lock"
	rmdir "$cache" 2>/dev/null || true
	for base in "/tmp/migrator-$(id -u)" "/dev/shm/migrator-$(id -u)"; do # unless a run has them now
		[ "$(ls "$base" 2>/dev/null)" != lock ] || rm -rf "$base"
	done
	exit 0
fi
missing=
have_servers || missing=" PostgreSQL and Redis"
have_prometheus || missing="${missing:+$missing,} Prometheus"
have_pgbouncer || missing="${missing:+$missing,} PgBouncer"
have_alertmanager || missing="${missing:+$missing,} Alertmanager"
[ -n "$missing" ] || exit 0
case $(uname -s) in
Darwin) with_brew ;;
*) with_apt ;;
esac
have_servers || give_up "they are here now but do not run"
