#!/bin/sh
# test.sh COMMAND...: runs a go test command, and then lists the packages that took
# longest. Its exit code is the command's.
set -eu

# What the go command builds goes to a directory that internal/test/testenv sweeps, as it
# does those of servers: the next run removes what a killed one left. Where there is no
# flock (macOS) it goes where it always does.
dir=
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
if command -v flock >/dev/null 2>&1; then
	base=/tmp/migrator-$(id -u)
	mkdir -m 711 "$base" 2>/dev/null || [ -O "$base" ] || { echo "$base belongs to another user" >&2; exit 1; }
	exec 8>>"$base/lock"
	flock 8 # a sweep takes this lock, and must not see the directory without its own
	dir=$(mktemp -d "$base/build-$$-XXXXXX")
	export GOTMPDIR="$dir"
	# Every process below holds this one, until the last of them has ended.
	exec 9>"$dir/owner"
	flock 9
	exec 8>&-
else
	dir=$(mktemp -d)
fi

# Some seventy programs are linked, those that tests build too: without what only a debugger
# reads, each takes half the time.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-ldflags=-w"

out=$dir/out
{
	code=0
	"$@" 2>&1 || code=$?
	echo $code >"$dir/code"
} | tee "$out"
read -r code <"$dir/code" # fails if there is none

awk '
	/^(ok|FAIL)[ \t]/ && $3 ~ /^[0-9.]+s$/ { took[$2] = $3 + 0; sum += $3 }
	END {
		printf "\nslowest packages, of %d s in all (some run at a time):\n", sum
		slowest = "sort -rn | head -n 15"
		for (p in took) printf "%8.1f s  %s\n", took[p], p | slowest
		close(slowest)
	}' "$out"
exit "$code"
