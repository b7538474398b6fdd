#!/usr/bin/env bash
# Checks the shell scripts, with Debian's shellcheck where root may install it.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v shellcheck >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get install -y --no-install-recommends shellcheck || { apt-get update && apt-get install -y --no-install-recommends shellcheck; }; } \
		</dev/null >/dev/null 2>&1 || true
fi
if ! command -v shellcheck >/dev/null; then
	if [ "${CI:-}" = true ]; then
		echo 'shellcheck is missing, which CI must have' >&2
		exit 1
	fi
	echo 'SKIPPED: shellcheck is not installed'
	exit 0
fi
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
shellcheck "${scripts[@]}"
echo "shellcheck: ${#scripts[@]} scripts are fine"
