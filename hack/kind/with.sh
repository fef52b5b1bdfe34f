#!/usr/bin/env bash
# with.sh CMD... runs a command with kind and kubectl of the pinned versions on PATH
# and KUBECONFIG naming the cluster of cluster.sh.
#
# With OFFLINE=1 in the environment, the container engine is one of our own
# (engine.sh; it is started if it does not run), and the command runs in its
# network namespace: nothing outside can be reached from there.
#
#   with.sh --down   removes the cluster, and with OFFLINE=1 the engine and all that
#                    it has made; what took long to build stays in the cache
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

down() {
	if [ -n "${OFFLINE-}" ]; then
		"$here/engine.sh" stop # and with it all containers
		rm -f "$kubeconfig"
	else
		"$here/cluster.sh" delete
	fi
}

# answering makes sure of the machine's engine: kind would say at length what is wrong.
answering() {
	docker version >/dev/null 2>&1 ||
		die "no Docker answers; start it, or set OFFLINE=1, which needs none (docs/kubernetes.md)"
}
[ -n "${OFFLINE-}" ] || answering

if [ "${1-}" = --down ]; then
	down
	exit
fi
[ $# -gt 0 ] || die "usage: hack/kind/with.sh CMD... | --down"

run=()
if [ -n "${OFFLINE-}" ]; then
	"$here/build.sh" engine
	"$here/engine.sh" start
	run=("$here/engine.sh" run)
else
	"$here/build.sh" tools
fi
PATH=$("$here/build.sh" path tools):$PATH
export PATH KUBECONFIG=$kubeconfig
exec "${run[@]}" "$@"
