#!/bin/sh
# commits.sh [BASE]: checks the subject of each commit after BASE (default main) on this
# branch: the package first, then a colon and what changes, in 72 characters at most.
# Merges are not checked. Prints each subject that is wrong, and exits with 1 if there is one.
set -eu
base=${1:-main}
form='^[a-z][a-z0-9_/.-]*(, [a-z][a-z0-9_/.-]*)*: [^ ]'

commits=$(git log --no-merges --format='%h %s' "$base..HEAD")
printf '%s\n' "$commits" | {
	bad=0
	while read -r commit subject; do
		[ -n "$commit" ] || continue
		# Characters, in every locale: the bytes that begin one.
		length=$(printf '%s' "$subject" | LC_ALL=C tr -d '\200-\277' | wc -c)
		if [ "$length" -gt 72 ]; then
			printf '%s has %d characters, at most 72: %s\n' "$commit" "$length" "$subject"
			bad=1
		fi
		if ! printf '%s\n' "$subject" | grep -Eq "$form"; then
			printf '%s does not begin with a package and a colon: %s\n' "$commit" "$subject"
			bad=1
		fi
	done
	exit "$bad"
}
