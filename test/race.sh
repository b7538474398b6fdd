#!/usr/bin/env bash
# Runs under the race detector the tests of the packages that start goroutines or lock: those it can say something about.
# The detector needs cgo; the product does not.
set -euo pipefail
cd "$(dirname "$0")/.."
report=$1

if ! command -v "$(go env CC)" >/dev/null; then
	if [ "${CI:-}" = true ]; then
		echo 'race: no C compiler, which CI must have' >&2
		exit 1
	fi
	echo 'SKIPPED: race: no C compiler'
	exit 0
fi

mapfile -t pkgs < <(git ls-files 'internal/*.go' 'cmd/*.go' | grep -v /testdata/ |
	xargs -r grep -lE '\bgo func|\bgo [a-zA-Z_.]+\(|"sync"|"sync/atomic"|x/sync/' | xargs -r -n1 dirname | sort -u | sed 's|^|./|')
if [ "${#pkgs[@]}" = 0 ]; then
	echo 'race: no package starts goroutines'
	exit 0
fi
CGO_ENABLED=1 go test -json -race -short -timeout 20m "${pkgs[@]}" </dev/null | "$report"
