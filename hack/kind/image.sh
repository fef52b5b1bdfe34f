#!/usr/bin/env bash
# image.sh NAME FOLDERS makes the node image in the engine, of the programs and the
# root file system that lie in FOLDERS (build.sh node calls it).
#
# The images of the control plane lie in the node image: nothing is pulled later.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

image=$1
shift
mapfile -t folders < <(printf '%s\n' "$@")
base=localhost/podwire-node:base
# Where kubeadm's configuration (cluster.sh) has the images from.
repository=localhost/k8s
tmp=$(mktemp -d "$cache/image.XXXXXX")
made=()

cleanup() {
	rm -rf "$tmp"
	docker rm -fv podwire-preload >/dev/null 2>&1
}

docker() { "$here/engine.sh" run docker "$@"; }

# find_program NAME prints where it was built.
find_program() {
	local each
	for each in "${folders[@]}"; do
		if [ -f "$each/$1" ]; then
			echo "$each/$1"
			return
		fi
	done
	die "no $1 in ${folders[*]}"
}

# import NAME ENTRYPOINT makes an image of a tar.
import() {
	docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		${2:+--change "ENTRYPOINT [\"$2\"]"} - "$1"
}

# of_program NAME:TAG ENTRYPOINT makes an image of nothing but one program.
of_program() {
	local program=${1%:*}
	tar -C "$(dirname "$(find_program "$program")")" --transform 's,^,usr/local/bin/,' \
		--owner 0 --group 0 -c "$program" | import "$repository/$1" "$2"
	made+=("$repository/$1")
}

# kube_proxy makes the image of kube-proxy, which calls iptables: that, and what it
# is linked with, are taken from the node's own file system.
kube_proxy() {
	local proxy=$repository/kube-proxy:$kubernetes
	docker create --name podwire-preload --entrypoint /usr/local/bin/closure \
		"$base" /usr/local/bin/kube-proxy /usr/sbin/{iptables,ip6tables}{,-save,-restore} /usr/sbin/{conntrack,nft}
	docker cp "$(find_program kube-proxy)" podwire-preload:/usr/local/bin/kube-proxy
	docker start -a podwire-preload >"$tmp/proxy.tar"
	docker rm podwire-preload
	import "$proxy" '' <"$tmp/proxy.tar"
	made+=("$proxy")
}

# base_image makes a node without images.
base_image() {
	local each
	import localhost/podwire-node:rootfs '' <"$(find_program rootfs.tar)"
	mkdir -p "$tmp/context/bin" "$tmp/context/cni"
	cp "$here"/node/* "$tmp/context/"
	for each in kubelet kubeadm kubectl netpol; do
		ln "$(find_program "$each")" "$tmp/context/bin/" 2>/dev/null || cp "$(find_program "$each")" "$tmp/context/bin/"
	done
	cp "$(find_program flannel)" "$tmp/context/cni/"
	echo "$kubernetes" >"$tmp/context/version"
	docker build -t "$base" "$tmp/context"
}

control_plane() {
	local each version
	for each in kube-apiserver kube-controller-manager kube-scheduler; do
		of_program "$each:$kubernetes" ''
	done
	version=$(pinned etcd go.etcd.io/etcd/server/v3)
	of_program "etcd:${version#v}-0" ''
	of_program "coredns:$(pinned coredns github.com/coredns/coredns)" /usr/local/bin/coredns
	of_program pause:3.10.1 /usr/local/bin/pause
	kube_proxy
}

# preload puts the images in the store of the node's own containerd.
preload() {
	docker save -o "$tmp/images.tar" "${made[@]}"
	docker run --name podwire-preload --privileged --entrypoint /usr/local/bin/preload \
		-v "$tmp/images.tar:/images.tar:ro" "$base"
	docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' podwire-preload "$image"
	docker rm -v podwire-preload
}

# tidy removes what was only on the way here, and node images of other versions.
tidy() {
	local each
	for each in $(docker image ls --format '{{.Repository}}:{{.Tag}}' localhost/podwire-node) "${made[@]}"; do
		[ "$each" = "$image" ] || docker rmi "$each" || true # another cluster may use it
	done
}

docker rm -fv podwire-preload >/dev/null 2>&1 || true # of a run that was killed
progress "making the base of the node image" base_image
progress "making the images of the control plane" control_plane
progress "putting them in the node image" preload
progress "removing what is left over" tidy
