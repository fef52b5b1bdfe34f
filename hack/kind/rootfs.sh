#!/usr/bin/env bash
# rootfs.sh FILE makes a tar of a node's file system: the distribution that this
# machine runs, from where this machine gets its own packages.
set -euo pipefail

packages=(systemd systemd-sysv containerd runc containernetworking-plugins iptables nftables iproute2
	conntrack ethtool socat kmod mount util-linux procps ca-certificates bash hostname)

# sources prints the machine's own sources, without those of third parties: a node
# needs nothing of them.
sources() {
	local id
	# shellcheck source=/dev/null
	id=$(. /etc/os-release && echo "$ID")
	# shellcheck disable=SC2016 # apt's variables
	apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v id="$id" 'tolower($1) == id { sub(/^[^ ]+ /, ""); print }' | sort -u
}

# settings prints how the machine fetches: through a proxy, from a snapshot.
settings() { apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv)' || true; }

main() {
	local suite dir
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	dir=$(mktemp -d)
	# shellcheck disable=SC2064 # the folder of now
	trap "rm -rf '$dir'" EXIT
	settings >"$dir/apt.conf"
	sources >"$dir/sources.list"
	[ -s "$dir/sources.list" ] || {
		echo "rootfs: apt knows no sources of this distribution; has apt-get update run?" >&2
		exit 1
	}
	mmdebstrap --variant=minbase --format=tar --aptopt="$dir/apt.conf" \
		--include="$(IFS=, && echo "${packages[*]}")" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$1" "$dir/sources.list"
}

main "$@"
