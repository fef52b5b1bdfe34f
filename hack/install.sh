#!/usr/bin/env bash
# install.sh GROUP... installs what is missing on a Debian or Ubuntu machine,
# from the distribution's own packages:
#
#   build  a C compiler, make, git, a Go
#   guest  a kernel and a busybox for the guest, unpacked below build/pkg
#   test   that, and real DHCP clients and servers, CNI plugins, libvirt, QEMU and
#          its network boot ROMs
#   cluster  a container engine, and what makes the root file systems of images
#   lint   shellcheck
#
# It does nothing, fast, where nothing is missing. No daemon is started or enabled.
# What a machine should not get as a package (a kernel; a busybox that would
# replace its own; DHCP clients that ifupdown would use from then on; a
# NetworkManager) is only unpacked. One program is in no package, though its source
# is: busybox's DHCPv6 client. That is built.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unpacked=$root/build/pkg
contents=2 # of build/pkg: another number has it laid out anew
policy=/usr/sbin/policy-rc.d
log=''

say() { echo "install: $*" >&2; }
die() { say "$*"; exit 1; }

# debian reports whether this is Debian, Ubuntu or one of their children.
debian() {
	(
		# shellcheck source=/dev/null
		. /etc/os-release 2>/dev/null
		case " ${ID-} ${ID_LIKE-} " in *" debian "* | *" ubuntu "*) ;; *) false ;; esac
	) && command -v dpkg-query >/dev/null
}

# debian_from N reports whether this is Debian N or later.
debian_from() {
	(
		# shellcheck source=/dev/null
		. /etc/os-release
		[ "$ID" = debian ] && [ "${VERSION_ID:-99}" -ge "$1" ]
	)
}

# packages GROUP prints the packages of a group.
packages() {
	local each
	case $1 in
	build)
		echo ca-certificates gcc libc6-dev make git
		"$root/hack/go.sh" >/dev/null || echo golang-go
		;;
	guest) echo gcc libc6-dev make bzip2 ;;
	test)
		packages guest
		echo iproute2 nftables util-linux dnsmasq-base containernetworking-plugins systemd strace
		echo libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
		case $(dpkg --print-architecture) in
		arm64) echo qemu-system-arm ;;
		*) echo qemu-system-x86 ipxe-qemu ;;
		esac
		;;
	cluster)
		echo mmdebstrap iproute2 iptables util-linux
		# A Docker of somebody else's is as good, and its packages conflict with these.
		for each in dockerd containerd runc docker; do
			command -v "$each" >/dev/null && continue
			echo docker.io containerd runc
			! debian_from 13 || echo docker-cli # a package of its own since
			break
		done
		;;
	lint) echo shellcheck ;;
	esac
}

# by_hand GROUP says what to install where we do not know the packages.
by_hand() {
	case $1 in
	build) echo "gcc, the C library's headers, make, git, Go 1.21 or later" ;;
	guest) echo "a static busybox and udhcpc6, dhclient, dhcpcd, NetworkManager, dbus-daemon, a kernel and its modules," \
		"unpacked below $unpacked" ;;
	test) echo "ip, nft, dnsmasq, systemd-networkd, strace, the CNI plugins bridge, ptp and host-local, libvirtd with" \
		"its QEMU driver, virsh, qemu-system-$(uname -m) with iPXE; and $(by_hand guest)" ;;
	cluster) echo "dockerd, containerd, runc, docker, mmdebstrap, ip, iptables, nsenter" ;;
	lint) echo "shellcheck" ;;
	esac
}

# missing PACKAGE... prints those that are not installed.
missing() {
	local each
	local -A have=()
	while read -r each; do
		have[$each]=1
	# dpkg-query fails for those it does not know, which is the question.
	done < <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p')
	for each in "$@"; do
		[ -n "${have[$each]-}" ] || echo "$each"
	done
}

# quietly COMMAND... shows what a command says only if it fails.
quietly() {
	"$@" >"$log" 2>&1 </dev/null || {
		cat "$log" >&2
		die "this failed: $*"
	}
}

# update reads the package lists anew, once. A third party's list that cannot be
# had is no reason to stop.
updated=''
update() {
	[ -z "$updated" ] || return 0
	updated=1
	apt-get -qq -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 || cat "$log" >&2
}

# hold_daemons keeps packages from starting their daemons, until release_daemons.
hold_daemons() {
	release_daemons # of a run that was killed
	[ ! -e "$policy" ] || mv "$policy" "$policy.podwire"
	printf '#!/bin/sh\n# podwire install.sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
}

release_daemons() {
	! grep -q '^# podwire install.sh$' "$policy" 2>/dev/null || rm -f "$policy"
	[ ! -e "$policy.podwire" ] || mv "$policy.podwire" "$policy"
}

# at_boot prints what systemd starts at boot.
at_boot() { find /etc/systemd/system -path '*.wants/*' -printf '%f\n' 2>/dev/null | sort -u; }

# disable_daemons BEFORE keeps systemd from starting at the next boot what libvirt's
# and Docker's packages have added to what was started BEFORE; podwire's tests
# start their own.
disable_daemons() {
	local each
	for each in $(comm -13 <(echo "$1") <(at_boot)); do
		case $each in *virt* | docker.* | containerd.*) systemctl disable --quiet "$each" >/dev/null 2>&1 || true ;; esac
	done
}

# install_packages PACKAGE... installs them, without what they only recommend.
install_packages() {
	local before
	before=$(at_boot)
	update
	trap 'release_daemons; rm -f "$log"' EXIT
	hold_daemons
	DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 quietly apt-get -qq -y \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		install --no-install-recommends "$@"
	release_daemons
	disable_daemons "$before"
}

# depends PACKAGE PATTERN prints those of a package's dependencies that match.
depends() {
	apt-cache depends --important "$1" 2>/dev/null |
		sed -n 's/^ *|*Depends: //p' | grep -E "$2" | sort -u || true
}

# first_of PACKAGE... prints the first that there is.
first_of() {
	local each
	for each in "$@"; do
		[ -z "$(apt-cache madison "$each" 2>/dev/null)" ] || { echo "$each" && return; }
	done
	die "no such package: $*"
}

# with_libraries PACKAGE... prints them, and the libraries that they would bring.
with_libraries() {
	echo "$@"
	apt-get -qq -s -o Debug::NoLocking=1 install --no-install-recommends "$@" |
		sed -n 's/^Inst \(lib[^ ]*\) (.*/\1/p' | grep -vE '^lib(pam|nss)-' || true
}

# unpack_names prints the packages to be unpacked. Debian's cloud kernel and
# Ubuntu's virtual one are the small ones that have virtio.
unpack_names() {
	local meta kernel
	for meta in "linux-image-cloud-$(dpkg --print-architecture)" linux-image-virtual; do
		kernel=$(depends "$meta" '^linux-image-[0-9]')
		[ -z "$kernel" ] || break
	done
	[ -n "$kernel" ] || die "no kernel for a virtual machine among the packages: linux-image-cloud or linux-image-virtual"
	echo "$kernel"
	depends "$kernel" '^linux-(modules|binary|base)-[0-9]'
	echo busybox-static
	echo isc-dhcp-client
	depends isc-dhcp-client '^lib(dns|isc|irs)'
	first_of dhcpcd-base dhcpcd5
	with_libraries network-manager "$(first_of dbus-daemon dbus)"
}

# source_of PACKAGE fetches a package's source as it was released upstream into the
# working directory. The machine's own lists seldom name sources: a copy of them does.
source_of() {
	local each lists=$PWD/lists
	mkdir -p "$lists/parts" "$lists/state/partial"
	for each in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
		case $each in
		*.sources) sed 's/^Types:.*/Types: deb-src/' "$each" ;;
		*.list) sed -n 's/^deb /deb-src /p' "$each" ;;
		esac >"$lists/parts/${each##*/}" 2>/dev/null || true # there may be none
	done
	local apt=(apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null
		-o Dir::Etc::sourceparts="$lists/parts" -o Dir::State::lists="$lists/state")
	"${apt[@]}" update >"$log" 2>&1 || true # a third party may have no sources
	quietly "${apt[@]}" source --download-only "$1"
}

# build_udhcpc6 PROGRAM builds busybox's DHCPv6 client alone, statically.
build_udhcpc6() {
	local dir
	dir=$(mktemp -d)
	(
		cd "$dir"
		source_of busybox
		tar -xf busybox_*.orig.tar.*
		cd busybox-*/
		quietly make allnoconfig
		# The first word on a setting is the one that counts.
		{
			printf 'CONFIG_%s=y\n' STATIC LFS LONG_OPTS SHOW_USAGE FEATURE_IPV6 \
				UDHCPC6 FEATURE_UDHCPC6_RFC3646 FEATURE_UDHCPC6_RFC4704
			cat .config
		} >settings
		mv settings .config
		quietly make oldconfig
		quietly make -j"$(nproc)"
	)
	(cd "$dir"/busybox-* && grep -q '^CONFIG_UDHCPC6=y$' .config) || die "busybox was built without udhcpc6"
	install -D -m 755 "$dir"/busybox-*/busybox "$1"
	rm -rf "$dir"
}

# unpack fetches the packages and lays their files out below build/pkg, in place of
# what was there.
unpack() {
	local dir=$unpacked.new each names
	update
	rm -rf "$dir" "$unpacked.old"
	mkdir -p "$dir/deb"
	names=$(unpack_names)
	# shellcheck disable=SC2086 # one word a package
	(cd "$dir/deb" && quietly apt-get -qq -o APT::Sandbox::User=root download $names)
	for each in "$dir"/deb/*.deb; do
		dpkg-deb -x "$each" "$dir"
	done
	rm -rf "$dir/deb"
	build_udhcpc6 "$dir/bin/udhcpc6"
	echo "$contents" >"$dir/contents"
	[ ! -e "$unpacked" ] || mv "$unpacked" "$unpacked.old"
	mv "$dir" "$unpacked"
	rm -rf "$unpacked.old"
}

# unpacked_all reports whether build/pkg holds what this script lays out there.
unpacked_all() { [ "$(cat "$unpacked/contents" 2>/dev/null)" = "$contents" ]; }

# progress TEXT COMMAND... runs a command between "TEXT ..." and "done in N s".
progress() {
	local started=$SECONDS
	printf 'install: %s ... ' "$1" >&2
	shift
	"$@"
	echo "done in $((SECONDS - started)) s" >&2
}

# need_root WHAT stops those who cannot install WHAT.
need_root() { [ "$(id -u)" -eq 0 ] || die "missing: $1; run this as root"; }

group() {
	local want packages
	packages=$(packages "$1")
	# shellcheck disable=SC2086 # one word a package
	mapfile -t want < <([ -z "$packages" ] || missing $packages)
	if [ ${#want[@]} -gt 0 ]; then
		need_root "${want[*]}"
		progress "$1: ${want[*]}" install_packages "${want[@]}"
	fi
	if { [ "$1" = test ] || [ "$1" = guest ]; } && ! unpacked_all; then
		need_root "the guest's kernel, busybox and DHCP clients in $unpacked"
		progress "$1: unpacking a kernel, busybox and DHCP clients below build/pkg" unpack
	fi
}

[ $# -gt 0 ] || die "usage: hack/install.sh build|guest|test|cluster|lint ..."
for each in "$@"; do
	case $each in build | guest | test | cluster | lint) ;; *) die "no such group: $each" ;; esac
done
if ! debian; then
	say "this is neither Debian nor Ubuntu; install by hand:"
	for each in "$@"; do say "  $each: $(by_hand "$each")"; done
	exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for each in "$@"; do group "$each"; done
