#!/usr/bin/env bash
# rootfs.sh FILE makes a tar of a node's file system: the distribution that this
# machine runs, from where this machine gets its own packages.
set -euo pipefail

packages=(systemd systemd-sysv containerd runc containernetworking-plugins iptables nftables iproute2
	conntrack ethtool socat kmod mount util-linux procps ca-certificates bash hostname)

main() {
	local suite dir
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	dir=$(mktemp -d)
	# shellcheck disable=SC2064 # the folder of now
	trap "rm -rf '$dir'" EXIT
	"$(dirname "${BASH_SOURCE[0]}")/../sources.sh" "$dir"
	mmdebstrap --variant=minbase --format=tar --aptopt="$dir/apt.conf" \
		--include="$(IFS=, && echo "${packages[*]}")" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$1" "$dir/sources.list"
}

main "$@"
