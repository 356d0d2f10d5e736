#!/bin/sh
# fuzz.sh GO TIME: runs each fuzz target of the module for TIME, one after another
# (go test fuzzes one at a time). Stops at the first that fails; the input is then
# in the package's testdata/fuzz, to be committed with the fix.
set -eu
go=$1 time=$2

dirs=$("$go" list -f '{{.Dir}}' ./...)
printf '%s\n' "$dirs" | while read -r dir; do
	# A package without test files has no match, which is no error.
	for target in $(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*\*testing\.F).*/\1/p'); do
		printf '== %s %s\n' "${dir#"$PWD"/}" "$target"
		(cd "$dir" && "$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .) </dev/null
	done
done
