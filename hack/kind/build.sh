#!/usr/bin/env bash
# build.sh makes what a cluster needs, out of Go modules and the distribution's
# packages alone.
#
#   build.sh tools    kind and kubectl
#   build.sh engine   these, and what the container engine needs of ours
#   build.sh node     these, and a node image for kind
#   build.sh plugins  CNI plugins for the stock node image
#   build.sh path tools|programs|plugins   prints the folder of a part
#   build.sh path node                     prints the name of the node image
#
# What is built lies in the cache, each part in a folder named for a hash of what
# goes into it; one that is there is whole, and is not built again. The
# distribution's packages are those of the day. The node image lies in the engine
# (engine.sh), named in the same way.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

go=$root/hack/go.sh
export CGO_ENABLED=0 # the images are FROM scratch; and the programs run anywhere
# What is built is for this machine, whatever somebody builds beside it.
unset GOARCH GOOS GOAMD64 GOARM64 GOFLAGS GOEXPERIMENT
tmp=''
cleanup() { [ -z "$tmp" ] || rm -rf "$tmp"; }

# hash FILE... prints a hash of files' contents, the Go version and the machine.
hash() {
	{
		uname -m
		awk '$1 == "toolchain"' "$root/go.mod"
		for each in "$@"; do
			sha256sum <"$each"
		done
	} | sha256sum | cut -c 1-12
}

# of PART prints the folder that holds a part.
of() {
	local part=$1 files=()
	case $part in
	kubectl) files=("$here"/kubernetes/go.{mod,sum}) ;;
	programs) mapfile -t files < <(find "$here/programs" -type f ! -name '*_test.go' | LC_ALL=C sort) ;;
	rootfs) files=("$here/rootfs.sh" "$here/../sources.sh" /etc/os-release) ;;
	*) files=("$here/$part"/go.{mod,sum}) ;;
	esac
	[ "$part" = rootfs ] || files+=("${BASH_SOURCE[0]}")
	echo "$cache/$part-$(hash "${files[@]}")"
}

# alone waits for the other builds to end; those who find all built need not.
lock=''
alone() {
	[ -z "$lock" ] || return 0
	mkdir -p "$cache"
	exec {lock}>"$cache/lock"
	flock -n "$lock" || { say "waiting for another build"; flock "$lock"; }
	# What a build that was killed has left.
	find "$cache" -maxdepth 1 -type d -name '*.??????' -exec rm -rf {} +
}

# part NAME builds one, unless it is there. It becomes visible when it is whole.
part() {
	local dir
	dir=$(of "$1")
	[ -d "$dir" ] || alone
	if [ ! -d "$dir" ]; then
		tmp=$(mktemp -d "$cache/$1.XXXXXX")
		progress "building $1" "build_$1"
		chmod 755 "$tmp"
		mv -T "$tmp" "$dir"
		tmp=''
		# Those of other versions go when nobody has used them for a week.
		find "$cache" -maxdepth 1 -name "$1-*" -mtime +7 -exec rm -rf {} +
	fi
	touch "$dir"
}

# compile MODULE LDFLAGS [PACKAGE...] builds a module's tools into $tmp. Two at a
# time: the large packages want a gigabyte of memory each.
compile() {
	local module=$1 flags=$2
	shift 2
	[ $# -gt 0 ] || set -- tool
	(cd "$here/$module" && nice "$go" build -p 2 -trimpath -buildvcs=false -ldflags "-s -w $flags" -o "$tmp/" "$@")
}

# stamped prints the linker's flags for Kubernetes' version: kubeadm refuses to
# work on a cluster whose version it does not know.
stamped() {
	local package version=${kubernetes#v}
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		printf -- '-X %s=%s ' "$package.gitVersion" "$kubernetes" "$package.gitMajor" "${version%%.*}" \
			"$package.gitMinor" "$(echo "$version" | cut -d . -f 2)" "$package.gitTreeState" clean \
			"$package.buildDate" 2026-01-01T00:00:00Z
	done
}

build_kind() { compile kind ''; }
build_etcd() {
	compile etcd ''
	mv "$tmp/server" "$tmp/etcd"
}
build_coredns() { compile coredns ''; }
build_plugins() { compile plugins ''; }
build_programs() { compile programs '' ./...; }
build_kubectl() { compile kubernetes "$(stamped)" k8s.io/kubernetes/cmd/kubectl; }
build_kubernetes() {
	compile kubernetes "$(stamped)"
	rm "$tmp/kubectl" # the tools' one will do
}
build_rootfs() { "$here/rootfs.sh" "$tmp/rootfs.tar"; }

# tools is kind and kubectl, in one folder.
tools() {
	local dir each
	part kind
	part kubectl
	dir=$(path tools)
	[ -d "$dir" ] || alone
	if [ ! -d "$dir" ]; then
		tmp=$(mktemp -d "$cache/tools.XXXXXX")
		for each in kind kubectl; do
			ln -s "$(of "$each")/$each" "$tmp/$each"
		done
		chmod 755 "$tmp"
		mv -T "$tmp" "$dir"
		tmp=''
	fi
}

parts=(kubernetes etcd coredns plugins programs rootfs)

path() {
	case $1 in
	tools) echo "$cache/tools-$(basename "$(of kind)")-$(basename "$(of kubectl)")" ;;
	node)
		local each files
		mapfile -t files < <(find "$here/node" "$here/image.sh" -type f | LC_ALL=C sort)
		for each in "${parts[@]}" kubectl; do
			basename "$(of "$each")"
		done | cat - "${files[@]}" | sha256sum | sed 's,^\(.\{12\}\).*,localhost/podwire-node:\1,'
		;;
	programs | plugins) of "$1" ;;
	*) die "no such path: $1" ;;
	esac
}

engine() {
	tools
	part programs
}

plugins() { part plugins; }

# node builds the parts, and of them, in the engine, the image.
node() {
	local each image
	for each in "${parts[@]}"; do
		[ -d "$(of "$each")" ] || room 8
	done
	engine
	for each in "${parts[@]}"; do
		part "$each"
	done
	image=$(path node)
	"$here/engine.sh" start
	made "$image" || alone
	made "$image" || "$here/image.sh" "$image" "$(of kubectl)" "$(for each in "${parts[@]}"; do of "$each"; done)"
}

made() { "$here/engine.sh" run docker image inspect "$1" >/dev/null 2>&1; }

case ${1-} in
path) path "${2-}" ;;
tools | engine | node | plugins)
	mkdir -p "$cache"
	"$1"
	;;
*) die "usage: hack/kind/build.sh tools|engine|node|plugins|path PART" ;;
esac
