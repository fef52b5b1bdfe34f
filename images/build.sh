#!/usr/bin/env bash
# build.sh builds the container images
#
#   localhost/podwire:dev  localhost/podwire-launcher:dev  localhost/podwire-guest:dev
#
# with the docker that DOCKER_HOST and PATH give. `make images` calls it.
#
#   GOARCH    amd64 or arm64; this machine's, unless it is set. For another's,
#             docker must have BuildKit and be able to run its programs
#             (binfmt_misc), and podwire-guest is left out: its kernel is this
#             machine's.
#   TAG       in place of dev
#   BASE      base image of podwire-launcher, in place of the Dockerfile's
#   SNAPSHOT  archive for its packages; see images/podwire-launcher/Dockerfile
#   OFFLINE=1 needs no registry: the base is made of this machine's own
#             distribution, from its own package archives, and kept in the cache
#             (~/.cache/podwire); and the docker is that of hack/kind, unless
#             DOCKER_HOST names another
#   SOURCE_DATE_EPOCH  the time of all files in the images
#
# The same inputs give the same layers, so the times say nothing of the build.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
umask 022

say() { echo "images: $*" >&2; }
die() { say "$*"; exit 1; }

# progress TEXT COMMAND... says what is begun, and how long it took. What the
# command prints is shown only if it fails, by on_exit: a command whose failure is
# caught here would run on after its own first failure.
doing=''
progress() {
	local started=$SECONDS
	doing=$1
	printf 'images: %s ... ' "$doing" >&2
	shift
	"$@" >"$log" 2>&1 </dev/null
	doing=''
	echo "done in $((SECONDS - started)) s" >&2
}

on_exit() {
	local code=$?
	if [ -n "$doing" ]; then
		echo "failed:" >&2
		tail -n 60 "$log" >&2
	fi
	rm -rf "$log" "$sources" "$cache"/base-*.tar.$$
	exit "$code"
}

host_arch() {
	case $(uname -m) in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) die "no images are known for $(uname -m)" ;;
	esac
}

# compiler prints the C compiler for GOARCH: podwire-launcher has C in it.
compiler() {
	case $arch in
	"$host") echo "${CC:-gcc}" ;;
	arm64) echo aarch64-linux-gnu-gcc ;;
	amd64) echo x86_64-linux-gnu-gcc ;;
	esac
}

programs() {
	local out=bin/linux-$arch cc
	cc=$(compiler)
	command -v "$cc" >/dev/null || die "missing: $cc (package gcc-${cc%-gcc})"
	CGO_ENABLED=0 GOARCH=$arch hack/go.sh build -trimpath -ldflags '-s -w' -o "$out/podwire" ./cmd/podwire
	CGO_ENABLED=1 GOARCH=$arch CC=$cc hack/go.sh build -tags libvirt_dlopen -trimpath -ldflags '-s -w -buildid=' \
		-o "$out/podwire-launcher" ./cmd/podwire-launcher
	chmod 755 "$out" "$out"/*
	same_times "$out"
}

guest() {
	(cd tests && env -u GOARCH ../hack/go.sh run ./cmd/guestimage "$root/build/guest/image")
	same_times build/guest/image
}

# same_times PATH... sets all times below to SOURCE_DATE_EPOCH.
same_times() { find "$@" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

# offline_base leaves in $base the name of an image that has all packages.
offline_base() {
	command -v mmdebstrap >/dev/null || die "missing: mmdebstrap"
	local suite key tar
	hack/sources.sh "$sources"
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	# Its inputs, with the versions that the archives have today of what is wanted;
	# newer ones of what that depends on come along with those.
	key=$({
		sed -n '/^offline_base/,/^}/p; /^debootstrap/,/^}/p' images/build.sh
		cat "$sources"/*
		# shellcheck disable=SC2046 # one word a package
		apt-cache policy $(sh images/podwire-launcher/system.sh list "$arch") base-files libc6 2>/dev/null |
			grep -E '^[^ ]|Candidate'
		echo "$arch $suite $SOURCE_DATE_EPOCH"
	} | sha256sum | cut -c 1-16)
	base=localhost/podwire-base:$suite-$key
	tar=$cache/base-$suite-$arch-$key.tar
	if ! docker image inspect "$base" >/dev/null 2>&1; then
		[ -s "$tar" ] || progress "a base image of $suite, from its package archives" debootstrap "$suite" "$tar"
		progress "importing the base image" docker import "$tar" "$base"
	fi
}

# debootstrap SUITE TAR makes a root file system with the packages.
debootstrap() {
	local include tmp=$2.$$
	include=$(sh images/podwire-launcher/system.sh list "$arch" | tr '\n ' ',,')
	rm -f "$cache"/base-*
	# usrmerge would bring in all of Perl to do nothing; the file system is merged
	# from the start.
	# shellcheck disable=SC2016 # $1 is mmdebstrap's
	mmdebstrap --variant=essential --quiet --aptopt="$sources/apt.conf" \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
		--setup-hook='printf "Package: usrmerge\nPin: release *\nPin-Priority: -1\n" >"$1/etc/apt/preferences.d/no-usrmerge"' \
		--essential-hook='echo "qemu:x:107:" >>"$1/etc/group"' \
		--essential-hook='echo "qemu:x:107:107:QEMU:/run/qemu:/usr/sbin/nologin" >>"$1/etc/passwd"' \
		--include="${include%,}" --format=tar "$1" "$tmp" "$sources/sources.list"
	mv "$tmp" "$2"
}

# engine finds, with OFFLINE=1, the engine that is the cluster's. Its network leads
# nowhere; that of this script fetches what is to be fetched.
engine() {
	DOCKER_HOST=$(hack/kind/with.sh printenv DOCKER_HOST)
	PATH=$(dirname "$(hack/kind/with.sh sh -c 'command -v docker')"):$PATH
	export DOCKER_HOST PATH
}

# image NAME ARGS... builds one.
image() {
	local name=$1
	shift
	docker build --quiet "${platform[@]}" -f "images/$name/Dockerfile" -t "localhost/$name:$tag" \
		--build-arg TARGETARCH="$arch" --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
		--build-arg VERSION="$version" --build-arg REVISION="$revision" "$@" .
}

# small makes sure that a pod pays little for podwire.
small() {
	local most=12000000
	[ "$(docker image inspect -f '{{.Size}}' "localhost/podwire:$tag")" -lt "$most" ] ||
		die "localhost/podwire:$tag has more than $most bytes"
}

size() { docker image inspect -f '{{.Size}}' "localhost/$1:$tag" | awk '{ printf "%.1f MB\n", $1 / 1e6 }'; }

host=$(host_arch)
arch=${GOARCH:-$host}
case $arch in amd64 | arm64) ;; *) die "GOARCH is amd64 or arm64, and not $arch" ;; esac
tag=${TAG:-dev}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767225600} # 2026-01-01
cache=${XDG_CACHE_HOME:-${HOME:-$root/build}/.cache}/podwire
version=$(git -c safe.directory="$root" describe --tags --always --dirty 2>/dev/null || echo dev)
revision=$(git -c safe.directory="$root" rev-parse HEAD 2>/dev/null || true)
mkdir -p "$cache"
log=$(mktemp)
sources=$(mktemp -d)
trap on_exit EXIT

offline=''
[ "${OFFLINE-}" != 1 ] || offline=1
[ -z "$offline" ] || [ "$arch" = "$host" ] || die "OFFLINE=1 builds for this machine's own architecture, $host"
[ -z "$offline" ] || [ -n "${DOCKER_HOST-}" ] || engine
docker version >/dev/null 2>&1 ||
	die "no Docker answers${DOCKER_HOST:+ at $DOCKER_HOST}; start it, or set OFFLINE=1, which needs none (docs/kubernetes.md)"
base=${BASE-}
network=() platform=()
[ "$arch" = "$host" ] || platform=(--platform "linux/$arch")
if [ -n "$offline" ]; then
	network=(--network none)
	[ -n "$base" ] || offline_base
fi
progress "programs for linux/$arch" programs
progress "podwire" image podwire
small
progress "podwire-launcher" image podwire-launcher ${base:+--build-arg BASE="$base"} --build-arg SNAPSHOT="${SNAPSHOT-}" \
	"${network[@]}"
built="podwire podwire-launcher"
if [ "$arch" = "$host" ]; then
	progress "the demo guest's disk" guest
	progress "podwire-guest" image podwire-guest
	built+=" podwire-guest"
else
	say "podwire-guest is left out: it takes a kernel for $arch"
fi
for each in $built; do say "localhost/$each:$tag, $(size "$each")"; done
