#!/bin/sh
# generated.sh GO: runs go generate and fails if that changes a file: what is generated was
# not up to date. It compares contents, so other uncommitted changes don't matter.
set -eu
go=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

sums() { find . -name .git -prune -o -path ./bin -prune -o -type f -exec cksum {} + | sort; }

sums >"$work/before"
"$go" generate ./...
sums >"$work/after"
if ! changed=$(diff "$work/before" "$work/after"); then
	printf 'These files were not up to date; go generate has written them now. Try: commit them\n' >&2
	printf '%s\n' "$changed" | sed -n 's/^[<>] [0-9]* [0-9]* //p' | sort -u >&2
	exit 1
fi
