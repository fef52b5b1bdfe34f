#!/usr/bin/env bash
# reliability.sh [TOPIC...] runs the tests of reliability in their long form, all of them or
# those of some topics, keeps their figures, and makes docs/reliability.md of all figures
# that are kept. A topic is a package below tests/reliability; the soak runs for ten minutes
# (PODWIRE_SOAK).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests"

kept=$PWD/reliability/figures
if [ $# -eq 0 ]; then
	for path in reliability/*/*_test.go; do
		set -- "$@" "$(basename "$(dirname "$path")")"
	done
	mapfile -t topics < <(printf '%s\n' "$@" | sort -u)
else
	topics=("$@")
fi
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
for topic in "${topics[@]}"; do
	PODWIRE_LONG=1 PODWIRE_SOAK=${PODWIRE_SOAK:-10m} PODWIRE_RELIABILITY_OUT=$new \
		../hack/go.sh test -count=1 -timeout 60m -v "./reliability/$topic"
	# A run that failed leaves the figures of the one before.
	[ ! -e "$new/$topic.txt" ] || LC_ALL=C sort "$new/$topic.txt" >"$kept/$topic.txt"
done
{
	printf 'date\t%s\n' "$(date -u +%Y-%m-%d)"
	printf 'processors\t%s\n' "$(nproc)"
	printf 'kernel\t%s\n' "$(uname -r | cut -d. -f1,2)"
} >"$kept/machine.txt"
../hack/go.sh run ./cmd/reliability "$kept" >"$new/page.md"
mv "$new/page.md" ../docs/reliability.md
