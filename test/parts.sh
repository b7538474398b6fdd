#!/usr/bin/env bash
# Brings what the tests need beyond Go. A part that cannot be had is said: with CI=true that is a failure, elsewhere the tests
# that need it are skipped, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=0
lacks() { # part, reason
	if [ "${CI:-}" = true ]; then
		echo "parts: $1 is missing: $2" >&2
		missing=1
	else
		echo "SKIPPED: tests with $1: $2" >&2
	fi
}

apt() {
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
	echo "parts: installing $*" >&2
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get install -y --no-install-recommends "$@" || { apt-get update && apt-get install -y --no-install-recommends "$@"; }; } </dev/null >&2
}

if [ -x test/cluster/build.sh ]; then
	test/cluster/build.sh </dev/null || lacks 'a real API server' 'test/cluster/build.sh failed, see above'
else
	lacks 'a real API server' 'test/cluster/build.sh is not there'
fi

if [ -z "${WHODUNIT_CHROMIUM:-}" ] && ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null && ! [ -d '/Applications/Google Chrome.app' ]; then
	apt chromium || lacks 'a real browser' 'no chromium, and it can be installed only by root with apt-get'
fi

exit "$missing"
