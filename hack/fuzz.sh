#!/usr/bin/env bash
# fuzz.sh DURATION runs every fuzz target for that long, one after another, and
# stops at the first that fails; its input is then below testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

duration=${1:?usage: hack/fuzz.sh DURATION}
mkdir -p build
# grep finds targets as "file:func FuzzName(".
grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' pkg internal | sort | while IFS=: read -r file func; do
	target=${func#func }
	echo "fuzz: $target in $(dirname "$file") for $duration"
	./hack/go.sh test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$duration" >build/fuzz.log 2>&1 || {
		cat build/fuzz.log
		exit 1
	}
	grep -E 'execs:' build/fuzz.log | tail -n 1
done
