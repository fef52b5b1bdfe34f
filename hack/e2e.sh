#!/usr/bin/env bash
# e2e.sh runs the tests of a cluster, in kind clusters of its own: of kind's node
# image, or with OFFLINE=1 of ours, which needs no registry.
#
# The first cluster is made by the commands of docs/kubernetes.md, and takes all the
# tests, with each binding; one for each further pod network takes those of the traffic,
# in each shape with the first binding, and in one shape, another each time, with each
# further one. A cluster that fails is kept, and build/e2e has what is known of it.
#
#   LAYOUTS="ptp/dual bridge/dual flannel/dual ptp/ipv4 ptp/ipv6"
#                              the pod networks, and the address families of each
#   FAMILY=ipv4|dual|ipv6      those of a pod network without
#   SHAPES=launcher,split,...  the kinds of VM pod
#   BINDINGS=bridge,tc,...     how each is joined to its pod
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

page=docs/kubernetes.md
read -ra layouts <<<"${LAYOUTS:-ptp/dual bridge/dual flannel/dual ptp/ipv4 ptp/ipv6}"
family=${FAMILY:-ipv4}
IFS=, read -ra shapes <<<"${SHAPES:-launcher,split,hook,chained}"
IFS=, read -ra bindings <<<"${BINDINGS:-bridge,tc,masquerade}"
artifacts=build/e2e
tests=build/e2e.test

say() { echo "e2e: $*" >&2; }

# run NAME ARGUMENT... runs the tests, from where relative paths are those of go test.
run() {
	local name=$1
	shift
	say "$name"
	(cd tests/e2e && "${within[@]}" "../../$tests" -test.v -test.count=1 -test.timeout=45m -test.parallel=6 \
		-artifacts "$artifacts" "$@")
}

# network WORD has what makes a cluster make that one: a layout, or LAYOUT/FAMILY.
network() {
	export LAYOUT=${1%/*} FAMILY=$family
	[ "$1" = "$LAYOUT" ] || FAMILY=${1#*/}
}

# each BINDING... prints each shape with each of these bindings.
each() {
	local binding shape
	for binding in "$@"; do
		for shape in "${shapes[@]}"; do echo "$shape/$binding"; done
	done
}

# some N prints what the N-th of the further pod networks takes.
some() {
	local i
	each "${bindings[0]}"
	for ((i = 1; i < ${#bindings[@]}; i++)); do
		echo "${shapes[($1 + i) % ${#shapes[@]}]}/${bindings[i]}"
	done
}

commas() { paste -sd , -; }

# collect keeps the nodes' own logs of what has failed.
collect() {
	local code=$?
	[ "$code" -ne 0 ] || return 0
	hack/kind/with.sh kind export logs --name podwire "$artifacts/nodes" >/dev/null 2>&1 || true
	say "failed; the cluster is kept for you to look at, and $artifacts has its logs"
	say "make cluster-down removes it"
}

rm -rf "$artifacts"
mkdir -p "$artifacts"
(cd tests && ../hack/go.sh test -c -tags e2e -o "../$tests" ./e2e)
hack/kind/with.sh true # what is missing is said before anything is begun
! hack/kind/cluster.sh exists || { say "there is a cluster already; make cluster-down removes it" && exit 1; }
trap collect EXIT

# The page is for people, who type its commands outside of the engine's network.
network "${layouts[0]}"
within=(env "PATH=$PWD/hack/kind/path:$PATH")
run "the commands of $page" -docs "$page"
within=("$PWD/hack/kind/with.sh")
run "all tests, layout $LAYOUT, $FAMILY" -layout "$LAYOUT" -family "$FAMILY" -restart-node 'docker restart' \
	-shapes "$(each "${bindings[@]}" | commas)"

for ((n = 1; n < ${#layouts[@]}; n++)); do
	network "${layouts[n]}"
	hack/kind/cluster.sh delete
	make cluster load
	run "traffic, layout $LAYOUT, $FAMILY" -layout "$LAYOUT" -family "$FAMILY" -suite traffic \
		-shapes "$(some "$n" | commas)"
done
hack/kind/with.sh --down
cat "$artifacts"/table-*.txt
say "all tests passed"
