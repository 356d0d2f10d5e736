#!/bin/sh
# Compiles examples/typescript below the cache of scripts/deps.sh. Prints the directory of the compiled files.
set -eu
. scripts/node.sh

dir=$cache/typescript
packages examples/typescript "$dir"
rm -rf "$dir/src" "$dir/dist"
cp -R examples/typescript/src examples/typescript/tsconfig.json "$dir"
(cd "$dir" && node node_modules/typescript/bin/tsc) >&2
printf '%s\n' "$dir/dist"
