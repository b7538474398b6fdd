#!/bin/sh
# Builds the tests' control plane (see main.go) into ${XDG_CACHE_HOME:-~/.cache}/whodunit-test/bin/testcluster and prints its path.
# It builds only when a source file, the Go version or the target changed since; two at once take turns. The first build
# takes 7 to 8 minutes on two cores, later ones 12 to 30 s as long as Go's build cache is kept.
#   build.sh          build if needed
#   build.sh --check  build nothing; exit 1 if a build is needed
set -eu

cd "$(dirname "$0")"
version=v1.36.3
bin=${XDG_CACHE_HOME:-$HOME/.cache}/whodunit-test/bin
out=$bin/testcluster

say() { echo "testcluster: $*" >&2; }

digest() {
	if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-64
}

inputs() {
	go env GOVERSION GOOS GOARCH
	for f in *.go go.mod go.sum build.sh; do
		echo "$f" && cat "$f"
	done
}

# Two at once: flock where there is one, else a directory, which only one can make.
lock() {
	if command -v flock >/dev/null; then
		exec 9>"$bin/.lock"
		flock -n 9 || { say "waiting for another build" && flock 9; }
		return
	fi
	until mkdir "$bin/.lock.d" 2>/dev/null; do
		say "waiting for another build ($bin/.lock.d)" && sleep 5
	done
	trap 'rmdir "$bin/.lock.d"' EXIT
}

current() { [ -x "$out" ] && [ "$(cat "$out.inputs" 2>/dev/null)" = "$want" ]; }

want=$(inputs | digest)
if current; then
	echo "$out"
	exit 0
fi
if [ "${1:-}" = --check ]; then
	say "$out is missing or older than its sources: run test/cluster/build.sh"
	exit 1
fi

mkdir -p "$bin"
lock
if ! current; then
	say "building (8 minutes with an empty build cache)"
	rm -f "$out.new"
	# -v names each package as it is compiled; everything else, errors above all, is passed on.
	{
		CGO_ENABLED=0 go build -v -trimpath -o "$out.new" -ldflags \
			"-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version" . 2>&1 ||
			echo "testcluster: build failed"
	} | awk '
		/^[a-z0-9][^ ]*$/ { if (++n % 100 == 0) print "testcluster: " n " packages compiled"; fflush(); next }
		{ print; fflush() }' >&2
	[ -x "$out.new" ] || exit 1
	mv "$out.new" "$out"
	echo "$want" >"$out.inputs"
	say "built $out"
fi
echo "$out"
