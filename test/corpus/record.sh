#!/bin/sh
# Records a corpus again, on Linux:
#   test/corpus/record.sh benign|attack [FLAGS of test/corpus]
# The cluster runs in a network namespace of its own, so that people, nodes and pods call from addresses that look like theirs (10.0.0.0/8,
# and 203.0.113.0/24 for the internet) and nothing can leave this machine. It needs ip, unshare, curl and zstd; no root where user
# namespaces are allowed.
set -eu

cd "$(dirname "$0")/../.."
name=${1:?usage: record.sh benign|attack [FLAGS]}
shift
for tool in ip unshare curl zstd; do
	command -v "$tool" >/dev/null || { echo "record.sh: $tool is missing" >&2 && exit 1; }
done
WHODUNIT_TESTCLUSTER=${WHODUNIT_TESTCLUSTER:-$(test/cluster/build.sh)} && export WHODUNIT_TESTCLUSTER
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
CGO_ENABLED=0 go build -o "$tmp/corpus" ./test/corpus
# shellcheck disable=SC2016 # the inner shell expands these
unshare --user --map-root-user --net sh -eu -c '
	ip link set lo up
	ip addr add 10.0.0.1/8 dev lo
	ip addr add 203.0.113.1/24 dev lo
	exec "$@"' sh "$tmp/corpus" -story "$name" -out "$tmp/audit.log" -commands "$tmp/commands.jsonl" "$@"
zstd -q -19 -f -o "examples/$name-1.36.log.zst" "$tmp/audit.log"
[ ! -s "$tmp/commands.jsonl" ] || cp "$tmp/commands.jsonl" "examples/$name.commands.jsonl"
ls -l examples/"$name"*
