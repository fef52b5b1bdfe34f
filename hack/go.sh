#!/usr/bin/env bash
# go.sh runs go with the toolchain that go.mod names; without arguments it
# prints the path of that go. It takes, in this order,
#
#   1. a go on this machine that is new enough,
#   2. the toolchain that it laid out in the cache before,
#   3. a go of 1.21 or later, which fetches the toolchain itself,
#   4. any older go, used once to fetch the toolchain as a Go module.
#
# Each way of fetching goes through the Go module proxy that the machine is
# configured for, and is verified against the checksum database.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
want=$(awk '$1 == "toolchain" { print substr($2, 3) }' "$root/go.mod")
cache=${XDG_CACHE_HOME:-${HOME:-$root/build}/.cache}/podwire
laid_out=$cache/go$want

say() { echo "go.sh: $*" >&2; }

# at_least HAVE WANT compares versions such as 1.26.8.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# version GO prints the version of a go itself, not of one it would switch to.
version() { (cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) | sed 's/^go//; s/ .*//'; }

# candidates prints the go programs of this machine, the likeliest first.
candidates() {
	type -ap go || true
	local each
	for each in /usr/local/go/bin/go /usr/lib/go-*/bin/go /usr/lib/go/bin/go; do
		[ ! -x "$each" ] || echo "$each"
	done
}

# switched GO has a go of 1.21 or later fetch the toolchain, and prints its go.
# Naming the toolchain, rather than leaving it to go.mod, also serves where
# GOTOOLCHAIN=local is set.
switched() {
	local goroot
	goroot=$(cd / && GOTOOLCHAIN=go$want "$1" env GOROOT) && echo "$goroot/bin/go"
}

# lay_out GO has a go that knows nothing of toolchains fetch one as a module, and
# makes of it what a later go would: modules hold no permissions, and a go.mod
# inside of them is spelled _go.mod.
lay_out() {
	local os arch module dir each
	os=$(cd / && "$1" env GOHOSTOS)
	arch=$(cd / && "$1" env GOHOSTARCH)
	module=golang.org/toolchain@v0.0.1-go$want.$os-$arch
	say "fetching $module with go $(version "$1"), once"
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/toolchain.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT # find_go runs in a subshell: its exit, before the go's
	dir=$(cd "$tmp" && GO111MODULE=on GOFLAGS='' "$1" mod download -json "$module" |
		sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
	[ -d "$dir" ] || { say "cannot fetch the Go toolchain $want"; return 1; }
	cp -R "$dir" "$tmp/go"
	chmod -R u+w "$tmp/go"
	chmod +x "$tmp"/go/bin/* "$tmp/go/pkg/tool/${os}_$arch"/*
	for each in "$tmp"/go/src/_go.mod "$tmp"/go/src/cmd/_go.mod; do
		[ ! -f "$each" ] || mv "$each" "${each%_go.mod}go.mod"
	done
	rm -rf "$laid_out"
	mv "$tmp/go" "$laid_out"
	echo "$laid_out/bin/go"
}

# find prints the path of the go to use.
find_go() {
	local each have newest='' newest_version=0
	while read -r each; do
		have=$(version "$each")
		[ -n "$have" ] || continue
		if at_least "$have" "$want"; then
			echo "$each"
			return
		fi
		if at_least "$have" "$newest_version"; then
			newest=$each newest_version=$have
		fi
	done < <(candidates)
	if [ -x "$laid_out/bin/go" ]; then
		echo "$laid_out/bin/go"
	elif [ -z "$newest" ]; then
		say "no Go on this machine; hack/install.sh build installs one"
		return 1
	elif at_least "$newest_version" 1.21; then
		switched "$newest"
	else
		lay_out "$newest"
	fi
}

go=$(find_go)
if [ $# -eq 0 ]; then
	echo "$go"
	exit
fi
# go asks git for the version of the checkout, and git refuses one that belongs to
# somebody else, as under root it often does.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=$root
# Other go programs that this one starts must be this one.
PATH=$(dirname "$go"):$PATH exec "$go" "$@"
