#!/usr/bin/env bash
# fuzz.sh DURATION runs every fuzz target for that long (60s), or that often
# (20000x), one after another, and stops at the first that fails; its input is then
# below testdata/fuzz. By default Go makes each interesting input smaller for up to
# a minute, which would be all of the time; here it tries a thousand times. Where it is
# told that often, the number is noted for docs/reliability.md (PODWIRE_RELIABILITY_OUT).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

duration=${1:?usage: hack/fuzz.sh DURATION}
mkdir -p build
# ended tells that only the time was up: go test may call that a failure when it
# comes at a bad moment, and then has no input to show.
ended() {
	grep -q 'context deadline exceeded' build/fuzz.log && ! grep -q 'Failing input' build/fuzz.log
}

# grep finds targets as "file:func FuzzName(".
grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' pkg internal | sort | while IFS=: read -r file func; do
	target=${func#func }
	echo "fuzz: $target in $(dirname "$file") for $duration"
	./hack/go.sh test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$duration" \
		-fuzzminimizetime 1000x >build/fuzz.log 2>&1 || ended || {
		cat build/fuzz.log
		exit 1
	}
	case ${PODWIRE_RELIABILITY_OUT-}/$duration in
	/* | *[!x]) ;;
	*) printf '%s in %s\t%s executions\n' "$target" "$(dirname "$file")" "${duration%x}" >>"$PODWIRE_RELIABILITY_OUT/fuzz.txt" ;;
	esac
	sed -n 's/.*\(execs: [0-9]*\).*\(new interesting: [0-9]*\).*/fuzz: \1, \2/p' build/fuzz.log | tail -n 1
done
