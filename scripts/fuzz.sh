#!/bin/sh
# fuzz.sh GO TIME: runs each fuzz target of the module for TIME, one after another
# (go test fuzzes one at a time). Stops at the first that fails; the input is then
# in the package's testdata/fuzz, to be committed with the fix.
set -eu
go=$1 time=$2

inputs() { find "$1/testdata/fuzz/$2" -type f 2>/dev/null | sort; }

dirs=$("$go" list -f '{{.Dir}}' ./...)
printf '%s\n' "$dirs" | while read -r dir; do
	# A package without test files has no match, which is no error.
	for target in $(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*\*testing\.F).*/\1/p'); do
		printf '== %s %s\n' "${dir#"$PWD"/}" "$target"
		before=$(inputs "$dir" "$target")
		code=0
		out=$(cd "$dir" && "$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" . </dev/null 2>&1) || code=$?
		printf '%s\n' "$out"
		[ $code = 0 ] && continue
		# Before Go 1.27 the end of the time may look like a failure: https://go.dev/issue/75804.
		# A finding would have written its input.
		if [ "$before" = "$(inputs "$dir" "$target")" ] && printf '%s\n' "$out" | grep -q '^ *context deadline exceeded$'; then
			echo "the time was over; no input fails"
			continue
		fi
		exit $code
	done
done
