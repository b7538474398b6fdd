#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after the other. A target that fails leaves its input in
# testdata/fuzz, to be committed with the mend.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-10s}
failed=()
while read -r dir; do
	while read -r target; do
		echo "fuzz: $dir $target ($time)"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" </dev/null || failed+=("$dir $target")
	done < <(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | awk '{ print $2 }')
done < <(git grep -lE '^func Fuzz' -- '*_test.go' ':!*/testdata/*' | xargs -r -n1 dirname | sort -u | sed 's|^|./|')

if [ "${#failed[@]}" -gt 0 ]; then
	printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
