#!/usr/bin/env bash
# engine.sh runs a container engine of our own, which touches nothing of the
# machine's: a network namespace, a mount namespace and a cgroup hold all that it
# makes, and its images lie in the cache.
#
#   engine.sh start       starts it, unless it runs
#   engine.sh run CMD...  runs a command in its network namespace
#   engine.sh stop        stops it and leaves nothing behind but the images
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=$cache/engine
socket=$state/docker.sock
netns=/run/netns/$engine

# cgroups prints our cgroup in every hierarchy of the machine, the one that counts
# our processes first: the unified one, or on cgroup v1 any that is there.
cgroups() {
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		echo "/sys/fs/cgroup/$engine"
		return
	fi
	local each
	for each in /sys/fs/cgroup/pids /sys/fs/cgroup/*/; do
		[ ! -e "$each/cgroup.procs" ] || echo "${each%/}/$engine"
	done
}

tracked() { cgroups | head -n 1; }

# processes prints all that the engine has started and that still runs: ours, to
# end, even where a run was killed and nobody knows their parents any more.
processes() {
	find "$(tracked)" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# alive FILE reports whether the process that wrote its number there still runs, and
# is one of ours: a number is used again.
alive() {
	local pid
	pid=$(cat "$1" 2>/dev/null) && grep -qs "/$engine" "/proc/$pid/cgroup"
}

# inside COMMAND... runs a command where the engine's addresses are. Proxies are
# taken from it: nothing outside can be reached from there.
within=(nsenter --net="$netns" env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY -u all_proxy
	DOCKER_HOST="unix://$socket" DOCKER_CONFIG="$state/docker" DOCKER_BUILDKIT=0)
inside() { "${within[@]}" "$@"; }

running() { alive "$state/engine.pid" && alive "$state/docker.pid" && inside docker version; }

# client finds the docker that came with dockerd: an engine may be too old for
# another one.
client() {
	local each
	for each in /usr/bin/docker "$(command -v docker)"; do
		if [ -x "$each" ]; then
			echo "$each"
			return
		fi
	done
}

need() {
	local each
	[ "$(id -u)" -eq 0 ] || die "the cluster's nodes are privileged containers: run this as root"
	for each in dockerd containerd runc docker nsenter unshare ip mmdebstrap; do
		command -v "$each" >/dev/null || die "no $each: hack/install.sh cluster installs it"
	done
}

containerd_config() {
	cat <<-END
		version = 2
		root = "$data/containerd"
		state = "$state/containerd"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		  address = "$state/containerd.sock"
	END
}

# supervise is the engine: containerd and dockerd, until it is told to end. It
# runs in the namespaces that start makes.
supervise() {
	local children=() each
	# The files that those hold open who happened to start us are not ours to keep;
	# some are locks. 255 is this script.
	for each in "/proc/$$/fd"/*; do
		each=${each##*/}
		[ "$each" -le 2 ] || [ "$each" -eq 255 ] || eval "exec $each>&-"
	done
	exec {terminal}>&2
	echo $$ >"$state/engine.pid"
	mkdir -p "$(tracked)/engine"
	echo $$ >"$(tracked)/engine/cgroup.procs"
	exec {held}>"$cache/engine.lock"
	flock -n "$held" || die "another engine uses $data"
	# dockerd first: it stops the containers, and containerd is needed for that.
	trap 'kill "${children[1]}"; wait "${children[1]}"; kill "${children[0]}"; wait; exit 0' TERM

	containerd --config "$state/containerd.toml" {held}>&- &
	children+=($!)
	until_true 30 test -S "$state/containerd.sock"
	# The runtime is ours, for the sake of machines on which root lacks capabilities.
	dockerd --data-root "$data/docker" --exec-root "$state/exec" --pidfile "$state/docker.pid" \
		--host "unix://$socket" --containerd "$state/containerd.sock" --config-file "$state/daemon.json" \
		--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$engine" \
		--add-runtime "podwire=$data/runc" --default-runtime podwire {held}>&- &
	children+=($!)
	wait -n # for the first of them to end, which neither should
	say "the engine has stopped by itself"
}

# launch starts the supervisor, apart from whoever starts it: its session, its
# output, the files that the caller holds open.
launch() {
	mkdir -p "$data" "$state/docker"
	# A copy: the engine may outlive the version that it was started from.
	install "$("$here/build.sh" path programs)/runc" "$data/runc"
	ip netns add "$engine"
	ip -n "$engine" link set lo up
	containerd_config >"$state/containerd.toml"
	echo '{}' >"$state/daemon.json" # not the machine's own
	ln -sfn "$(client)" "$state/docker/docker"
	# Mounts of the machine are seen inside, those made inside are not seen outside.
	setsid nsenter --net="$netns" unshare --mount --propagation slave \
		"$here/engine.sh" supervise >"$state/engine.log" 2>&1 </dev/null &
	until_true 60 running || {
		tail -n 40 "$state/engine.log"
		return 1
	}
	# What an engine that was killed has left would be started again one day.
	inside docker ps -aq | inside xargs -r docker rm -fv
	inside docker volume prune -f
	inside docker image prune -f
}

start() {
	need
	! running >/dev/null 2>&1 || return 0
	mkdir -p "$cache"
	exec {lock}>"$cache/start.lock"
	flock "$lock"
	! running >/dev/null 2>&1 || return 0
	clear_away
	mkdir -p "$state"
	[ -d "$("$here/build.sh" path programs)" ] || die "hack/kind/build.sh engine goes before this"
	progress "starting the container engine" launch
}

# clear_away ends and removes all that an engine makes, whether it runs or not.
clear_away() {
	local each
	if alive "$state/engine.pid"; then
		kill "$(cat "$state/engine.pid")" 2>/dev/null || true
		until_true 30 none_left || say "the engine does not end by itself"
	fi
	until_true 30 killed || die "these do not end: $(processes | tr '\n' ' ')"
	[ ! -e "$netns" ] || ip netns del "$engine"
	for each in $(cgroups); do
		[ ! -d "$each" ] || until_true 10 uncgroup "$each" || die "cannot remove the cgroup $each"
	done
	rm -rf "$state"
}

none_left() { [ -z "$(processes)" ]; }

killed() {
	local each
	for each in $(processes); do
		kill -KILL "$each" 2>/dev/null || true
	done
	none_left
}

# uncgroup removes a cgroup with those below it.
uncgroup() { find "$1" -depth -type d -exec rmdir {} \; && [ ! -d "$1" ]; }

stop() {
	mkdir -p "$cache"
	exec {lock}>"$cache/start.lock"
	flock "$lock"
	if running >/dev/null 2>&1; then
		# Not containers alone: each node has a volume of a gigabyte.
		inside docker ps -aq | inside xargs -r docker rm -fv >/dev/null
	fi
	progress "stopping the container engine" clear_away
}

run() {
	[ -e "$netns" ] || die "the engine does not run"
	# In place of this script: signals are for the command.
	PATH=$state/docker:$PATH exec "${within[@]}" "$@"
}

case ${1-} in
start | stop | supervise) "$1" ;;
run) "$@" ;;
*) die "usage: hack/kind/engine.sh start|stop|run CMD..." ;;
esac
