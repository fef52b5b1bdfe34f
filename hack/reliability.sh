#!/usr/bin/env bash
# reliability.sh [TOPIC...] runs the tests of reliability in their long form, all of them or
# those of some topics, keeps their figures, and makes docs/reliability.md of all figures
# that are kept. A topic is a package below tests/reliability, or "guard"; the soak runs for
# PODWIRE_SOAK (10m).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests"

kept=$PWD/reliability/figures
topics=("$@")
[ $# -gt 0 ] || topics=(confined failing follow guard hostile input killed moves server soak)
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

# long ARGUMENT... runs tests.
long() {
	PODWIRE_LONG=1 PODWIRE_SOAK=${PODWIRE_SOAK:-10m} PODWIRE_RELIABILITY_OUT=$new \
		../hack/go.sh test -p 1 -count=1 -timeout 60m -v "$@"
}

for topic in "${topics[@]}"; do
	case $topic in
	guard) long ./local -run Guard ;;
	killed) long ./reliability/killed && long ./cniplugin -run Killed ;;
	soak) long -parallel 3 ./reliability/soak ;; # a guest each, which mostly waits
	*) long "./reliability/$topic" ;;
	esac
	# A run that failed leaves the figures of the one before.
	LC_ALL=C sort -o "$kept/$topic.txt" "$new/$topic.txt"
done
{
	printf 'date\t%s\n' "$(date -u +%Y-%m-%d)"
	printf 'processors\t%s\n' "$(nproc)"
	printf 'kernel\t%s\n' "$(uname -r | cut -d. -f1,2)"
} >"$kept/machine.txt"
../hack/go.sh run ./cmd/reliability "$kept" >"$new/page.md"
mv "$new/page.md" ../docs/reliability.md
