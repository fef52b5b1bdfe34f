#!/bin/sh
# system.sh makes the launcher's file system, inside of the image that is built:
#
#   system.sh list ARCH          prints the packages that it wants
#   system.sh packages SNAPSHOT  installs those that are missing
#   system.sh finish EPOCH       adds users and settings, removes what a container
#                                has no use for, and sets the times to EPOCH
set -eu

# list prints the packages for an architecture, as Debian calls it.
list() {
	echo libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
	case $1 in
	amd64) echo qemu-system-x86 ;;
	# The firmware is not for the demo guest, but for all that boot from a disk.
	arm64) echo qemu-system-arm qemu-efi-aarch64 ipxe-qemu ;;
	*) echo "system.sh: no packages are known for $1" >&2 && return 1 ;;
	esac
}

# missing PACKAGE... prints those that are not installed.
missing() {
	for each in "$@"; do
		dpkg-query -W -f '${db:Status-Status}' "$each" 2>/dev/null | grep -qx installed || echo "$each"
	done
}

# snapshot ADDRESS has apt read the archive as it was one day. In the address, @
# stands for debian or debian-security.
snapshot() {
	# shellcheck disable=SC2001 # the replacement is the group's number, a backslash and all
	to=$(echo "$1" | sed 's#@#\\2#')
	sed -i -E "s#^(URIs: )https?://[^ ]*/(debian(-security)?)/?\$#\1$to#" \
		/etc/apt/sources.list.d/*.sources
	echo 'Acquire::Check-Valid-Until "false";' >/etc/apt/apt.conf.d/90podwire-snapshot
}

packages() {
	user # first, so that no package's own user gets the number
	# shellcheck disable=SC2046 # one word a package
	want=$(missing $(list "$(dpkg --print-architecture)"))
	[ -n "$want" ] || return 0
	[ -z "$1" ] || snapshot "$1"
	apt-get -qq update
	# shellcheck disable=SC2086 # one word a package
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $want
}

# user adds the user of VM containers that are not root. A tap is given to it by
# number: podwire setup --tap-owner 107:107.
user() {
	taken=$(awk -F: '$3 == 107 && $1 != "qemu" { print $1 }' /etc/passwd /etc/group)
	[ -z "$taken" ] || { echo "system.sh: the base image gives number 107 to $taken" >&2 && return 1; }
	grep -q '^qemu:' /etc/group || echo 'qemu:x:107:' >>/etc/group
	grep -q '^qemu:' /etc/passwd || echo 'qemu:x:107:107:QEMU:/run/qemu:/usr/sbin/nologin' >>/etc/passwd
}

# distributions_user adds the one that Debian's libvirt looks up when it starts,
# whatever qemu.conf says, and that not every release's packages add.
distributions_user() {
	grep -q '^kvm:' /etc/group || groupadd --system kvm
	grep -q '^libvirt-qemu:' /etc/group || groupadd --gid 64055 libvirt-qemu
	grep -q '^libvirt-qemu:' /etc/passwd || useradd --no-log-init --uid 64055 --gid kvm --no-create-home \
		--home-dir /var/lib/libvirt --shell /usr/sbin/nologin libvirt-qemu
}

settings() {
	install -d -m 755 /etc/libvirt/hooks /etc/libvirt/qemu/autostart
	install -m 644 "$(dirname "$0")/qemu.conf" /etc/libvirt/qemu.conf
	# The packages give them to libvirt-qemu; libvirt would give them to root itself,
	# which takes CAP_CHOWN.
	install -d -m 755 /var/lib/libvirt /var/cache/libvirt
	chown -R 0:0 /var/lib/libvirt /var/cache/libvirt
	# libvirt's session mode reads and writes below the same directory. So that the
	# file can be in the image, and the rest in a volume, the rest is a link. There a
	# user that is not root would try, in vain, to give files to another.
	install -d -m 755 /etc/qemu-session/libvirt
	grep -vE '^(user|group|dynamic_ownership|remember_owner) = ' /etc/libvirt/qemu.conf >/etc/qemu-session/libvirt/qemu.conf
	install -d -m 700 -o 107 -g 107 /run/qemu
	for each in qemu secrets storage nwfilter; do
		ln -sfn /run/qemu "/etc/qemu-session/libvirt/$each"
	done
}

# purge removes what differs from build to build, and what nobody reads here.
purge() {
	rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig/* /var/log/* /tmp/* \
		/var/lib/dpkg/*-old /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/machine-id \
		/usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian \
		/etc/apt/apt.conf.d/90podwire-snapshot /etc/apt/preferences.d/no-usrmerge
	# QEMU's firmware for other machines, and its 32-bit twin.
	rm -f /usr/bin/qemu-system-i386 /usr/libexec/qemu-system-i386 /usr/share/qemu/*.elf /usr/share/qemu/*.dtb \
		/usr/share/qemu/skiboot.lid /usr/share/qemu/slof.bin /usr/share/qemu/openbios-* \
		/usr/share/qemu/s390-* /usr/share/qemu/hppa-* /usr/share/qemu/palcode-* /usr/share/qemu/opensbi-*
}

finish() {
	user
	distributions_user
	settings
	# passwd's last change is a date.
	[ ! -e /etc/shadow ] || sed -i -E "s/^([^:]*:[^:]*):[0-9]+:/\1:$(($1 / 86400)):/" /etc/shadow
	purge
	# The first three are mounts, and the others the builder's own, not the image's.
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /etc/resolv.conf -o -path /etc/hosts \
		-o -path /etc/hostname \) -prune -o -newermt "@$1" -print0 | xargs -0 -r touch -h -d "@$1"
}

case ${1-} in
list | packages | finish) "$@" ;;
*) echo "usage: system.sh list ARCH | packages SNAPSHOT | finish EPOCH" >&2 && exit 2 ;;
esac
