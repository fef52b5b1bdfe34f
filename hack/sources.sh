#!/usr/bin/env bash
# sources.sh DIR writes what a root file system of this machine's distribution is
# made from: DIR/sources.list, the machine's own package archives without those of
# third parties, and DIR/apt.conf, how the machine fetches from them.
set -euo pipefail

# sources prints the archives of the distribution.
sources() {
	local id
	# shellcheck source=/dev/null
	id=$(. /etc/os-release && echo "$ID")
	# shellcheck disable=SC2016 # apt's variables
	apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v id="$id" 'tolower($1) == id { sub(/^[^ ]+ /, ""); print }' | sort -u
}

# settings prints whether it is through a proxy, from a snapshot, how often.
settings() { apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv)' || true; }

dir=${1:?usage: hack/sources.sh DIR}
settings >"$dir/apt.conf"
sources >"$dir/sources.list"
[ -s "$dir/sources.list" ] || {
	echo "sources: apt knows no archives of this distribution; has apt-get update run?" >&2
	exit 1
}
