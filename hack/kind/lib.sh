# shellcheck shell=bash
# lib.sh is what the scripts of this folder share: where things are, and how to
# say how it goes. It is sourced.

# The name of the cluster, the network namespace, the engine's cgroup.
# shellcheck disable=SC2034 # for those who source this
name=podwire
engine=podwire-kind

# Nothing but 1 means it, so that 0 does not.
[ "${OFFLINE-}" = 1 ] || unset OFFLINE

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-$root/build}/.cache}/podwire/kind
# shellcheck disable=SC2034
state=/run/$engine
# shellcheck disable=SC2034
kubeconfig=$root/build/kind/kubeconfig

# Versions are read from the modules that pin them.
pinned() { awk -v m="$2" '{ sub(/^require /, "") } $1 == m { print $2; exit }' "$here/$1/go.mod"; }
kubernetes=$(pinned kubernetes k8s.io/kubernetes)

exec {terminal}>&2
say() { echo "kind: $*" >&"$terminal"; }
die() { say "$*"; exit 1; }

# progress TEXT COMMAND... says what is begun, and how long it took. What the
# command prints is shown only if it fails: on_exit does it, because a command
# whose failure is caught here would run on after its own first failure.
doing='' log=''
progress() {
	local began=$SECONDS
	doing=$1
	say "$doing ..."
	shift
	log=${log:-$(mktemp)}
	"$@" >"$log" 2>&1 </dev/null
	doing=''
	say "  done in $((SECONDS - began)) s"
}

# cleanup is for the scripts to define anew.
cleanup() { :; }

on_exit() {
	local code=$?
	trap - EXIT
	trap '' INT TERM HUP # what is cleaned away is cleaned away whole
	if [ "$code" -ne 0 ] && [ -n "$doing" ]; then
		tail -n 60 "$log" >&"$terminal"
		say "this failed: $doing"
	fi
	cleanup || true
	[ -z "$log" ] || rm -f "$log"
	exit "$code"
}
trap on_exit EXIT

# until_true SECONDS COMMAND... waits for a command to succeed.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

# room GIGABYTES stops early what would fill the disk.
room() {
	local free
	mkdir -p "$cache"
	free=$(df --output=avail -B 1G "$cache" | tail -n 1)
	[ "$free" -ge "$1" ] || die "$1 GB of disk are needed below $cache, $free GB are free"
}
