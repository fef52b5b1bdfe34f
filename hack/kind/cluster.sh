#!/usr/bin/env bash
# cluster.sh makes the cluster of the tests: two nodes, pods on both.
#
#   cluster.sh create         makes it, with the pod network that LAYOUT names:
#                             ptp (the default), bridge or flannel, and the address
#                             families that FAMILY names: ipv4 (the default), ipv6
#                             or dual
#   cluster.sh delete         removes it
#   cluster.sh load IMAGE...  gives images of the container engine to the nodes
#   cluster.sh layout         prints the pod network that it has, and its families
#
# OFFLINE=1 makes it of our own node image, without a registry (with.sh).
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The node image that belongs to the pinned kind, as its release notes name it.
stock=kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
label=podwire.io/layout
family_label=podwire.io/family

offline() { [ -n "${OFFLINE-}" ]; }
nodes() { kind get nodes --name "$name" 2>/dev/null; }
exists() { kind get clusters 2>/dev/null | grep -qx "$name"; }

# foreign reports whether kind's own pod network is to be left out: the stock node
# image has one, which is laid out as ptp. In our own image, podnet makes each.
foreign() { ! offline && [ "$1" != ptp ]; }

# dns FAMILY prints the addresses of the cluster's DNS: the tenth of kind's default
# range of services, in each family.
dns() {
	case $1 in ipv4 | dual) echo 10.96.0.10 ;; esac
	case $1 in ipv6 | dual) echo fd00:10:96::a ;; esac
}

# config LAYOUT FAMILY prints kind's configuration.
config() {
	local image=$stock role left_out=false enforced=true
	! offline || image=$("$here/build.sh" path node)
	! foreign "$1" || left_out=true enforced=false
	cat <<-END
		kind: Cluster
		apiVersion: kind.x-k8s.io/v1alpha4
		name: $name
		networking:
		  ipFamily: $2
		  kubeProxyMode: iptables
		  disableDefaultCNI: $left_out
		kubeadmConfigPatches:
		- |
		  kind: InitConfiguration
		  nodeRegistration: {taints: []}
		- |
		  kind: KubeletConfiguration
		  clusterDNS: [$(dns "$2" | paste -sd , | sed 's/[^,]*/"&"/g')]
		  allowedUnsafeSysctls: [net.ipv6.conf.all.forwarding]
	END
	if offline; then
		# /kind/resolv.conf: see node/entrypoint. Kubernetes of later versions refuses
		# cgroup v1 unless it is told not to.
		cat <<-END
			- |
			  kind: ClusterConfiguration
			  imageRepository: localhost/k8s
			- |
			  kind: KubeletConfiguration
			  cgroupDriver: cgroupfs
			  failCgroupV1: false
			  resolvConf: /kind/resolv.conf
		END
	fi
	echo nodes:
	for role in control-plane worker; do
		# For the tests: NetworkPolicy is enforced by kind's own network, and by netpol.
		echo "- {role: $role, image: \"$image\", labels: {$label: $1, $family_label: $2, podwire.io/network-policy: \"$enforced\"}}"
	done
}

# network gives nodes of the stock image a pod network that is not kind's.
network() {
	local node plugins
	plugins=$("$here/build.sh" path plugins)
	kubectl apply -f "$here/node/rbac.yaml"
	for node in $(nodes); do
		docker cp "$plugins/bridge" "$node:/opt/cni/bin/bridge"
		docker cp "$plugins/flannel" "$node:/opt/cni/bin/flannel"
		podnet "$node"
	done
}

# podnet NODE [ARGUMENT] has podnet run in a node of the stock image, at each start.
podnet() {
	docker cp "$here/node/podnet" "$1:/usr/local/bin/podnet"
	sed "s,^ExecStart=.*,& ${2-}," "$here/node/podnet.service" |
		docker exec -i "$1" cp /dev/stdin /etc/systemd/system/podnet.service
	docker exec "$1" systemctl enable --now podnet.service
}

# create_nodes LAYOUT FAMILY makes the cluster. What fails is kept, for its logs.
create_nodes() {
	mkdir -p "$(dirname "$kubeconfig")"
	config "$@" >"$(dirname "$kubeconfig")/config.yaml"
	kind create cluster --retain --kubeconfig "$kubeconfig" --config "$(dirname "$kubeconfig")/config.yaml"
}

# tun opens /dev/net/tun to everybody, as udev would, in nodes of the stock image.
tun() {
	local node
	for node in $(nodes); do podnet "$node" tun; done
}

# answering FAMILY reports whether each node reaches the cluster's DNS by its service
# addresses, which takes all of kube-proxy, the pod network and CoreDNS.
answering() {
	local node address
	for node in $(nodes); do
		for address in $(dns "$1"); do
			docker exec "$node" timeout 1 bash -c "</dev/tcp/$address/53" || return 1
		done
	done
}

# dual_dns gives the cluster's DNS the address of the second family: kubeadm makes a
# service of one.
dual_dns() {
	kubectl -n kube-system patch service kube-dns --patch "{\"spec\": {\"ipFamilyPolicy\": \"RequireDualStack\",
		\"clusterIPs\": [$(dns dual | paste -sd , | sed 's/[^,]*/"&"/g')]}}"
}

# ready FAMILY waits for what pods need.
ready() {
	[ "$1" != dual ] || dual_dns
	kubectl wait --for condition=Ready node --all --timeout 180s
	kubectl -n kube-system rollout status daemonset/kube-proxy --timeout 120s
	kubectl -n kube-system rollout status deployment/coredns --timeout 180s
	until_true 60 answering "$1"
}

logs() {
	local to=$root/build/kind/logs
	rm -rf "$to"
	kind export logs "$to" --name "$name" >/dev/null 2>&1 || true
	say "the nodes' logs are in $to"
}

create() {
	local layout=${LAYOUT:-ptp} family=${FAMILY:-ipv4} have
	case $layout in ptp | bridge | flannel) ;; *) die "LAYOUT is ptp, bridge or flannel, not $layout" ;; esac
	case $family in ipv4 | ipv6 | dual) ;; *) die "FAMILY is ipv4, ipv6 or dual, not $family" ;; esac
	alone
	if exists; then
		# It may have been made from another checkout.
		have=$(found 2>/dev/null || true)
		[ "$have" != "$layout $family" ] || { say "there is a cluster already" && return; }
		die "there is a cluster already, ${have:-which does not answer}; make cluster-down removes it"
	fi
	room 3
	# What is not whole is of no use, but for its logs.
	# shellcheck disable=SC2317 # on_exit calls it
	cleanup() { ! exists || { logs; remove; }; }
	progress "creating the cluster, $layout, $family" create_nodes "$layout" "$family"
	if foreign "$layout"; then
		progress "laying out the pod network" network
	elif ! offline; then
		progress "opening /dev/net/tun" tun
	fi
	progress "waiting for the nodes and CoreDNS" ready "$family"
	# shellcheck disable=SC2317
	cleanup() { :; }
}

remove() {
	kind delete cluster --name "$name" --kubeconfig "$kubeconfig" >/dev/null 2>&1
	rm -f "$kubeconfig"
}

delete() {
	alone
	progress "deleting the cluster" remove
}

# alone refuses to work on a cluster that somebody else is making or removing.
alone() {
	mkdir -p "$cache"
	exec {lock}>"$cache/cluster.lock"
	flock -n "$lock" || die "somebody else is creating or deleting the cluster"
}

# found prints the layout of a cluster that is there, and makes it the one that kubectl
# speaks to.
found() {
	mkdir -p "$(dirname "$kubeconfig")"
	kind export kubeconfig --name "$name" --kubeconfig "$kubeconfig" >&2
	layout
}

layout() {
	kubectl get nodes -o jsonpath="{.items[0].metadata.labels.${label//./\\.}} {.items[0].metadata.labels.${family_label//./\\.}}{\"\n\"}"
}

# load IMAGE... skips those that the nodes have: a megabyte takes 30 ms a node.
load() {
	local image node id want=()
	for image in "$@"; do
		id=$(docker image inspect -f '{{.Id}}' "$image") || die "the engine has no image $image"
		for node in $(nodes); do
			if [ "$(docker exec "$node" cat "/kind/loaded/$image" 2>/dev/null)" != "$id" ]; then
				want+=("$image")
				break
			fi
		done
	done
	[ ${#want[@]} -gt 0 ] || return 0
	progress "loading ${want[*]}" kind load docker-image --name "$name" "${want[@]}"
	for image in "${want[@]}"; do
		id=$(docker image inspect -f '{{.Id}}' "$image")
		for node in $(nodes); do
			docker exec "$node" sh -c "mkdir -p '/kind/loaded/$(dirname "$image")' && echo '$id' >'/kind/loaded/$image'"
		done
	done
}

case ${1-} in
create | exists | delete | load | layout) ;;
*) die "usage: hack/kind/cluster.sh create|delete|load IMAGE...|layout" ;;
esac
# All of this needs kind on PATH, and the right engine.
if [ "${PODWIRE_KIND-}" != "${OFFLINE:-online}" ]; then
	if [ "$1" = create ]; then
		# Out here there is a network to download modules and packages from.
		! offline || "$here/build.sh" node
		! foreign "${LAYOUT:-ptp}" || "$here/build.sh" plugins
	fi
	PODWIRE_KIND=${OFFLINE:-online} exec "$here/with.sh" "$here/cluster.sh" "$@"
fi
"$@"
