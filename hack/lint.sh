#!/usr/bin/env bash
# lint.sh runs golangci-lint at the version that hack/tools pins, shellcheck, and
# a check that the modules are tidy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

version=$(awk '$1 == "github.com/golangci/golangci-lint/v2" || $2 == "github.com/golangci/golangci-lint/v2" { print $NF == "indirect" ? $(NF-2) : $NF }' hack/tools/go.mod)
linter=$root/build/golangci-lint-$version
if [ ! -x "$linter" ]; then
	echo "lint: building golangci-lint $version, once (minutes)"
	mkdir -p build
	(cd hack/tools && ../go.sh build -o "$linter" github.com/golangci/golangci-lint/v2/cmd/golangci-lint)
fi

# golangci-lint asks the go on PATH about packages.
PATH=$(dirname "$(./hack/go.sh)"):$PATH
export PATH
for module in . tests hack/kind/programs; do
	echo "lint: golangci-lint in $module"
	also=()
	case $module in hack/*) also=(--disable depguard) ;; esac # which fences podwire's own packages
	(cd "$module" && "$linter" run --config "$root/.golangci.yaml" --build-tags libvirt_dlopen,e2e "${also[@]}" ./...)
done
echo "lint: shellcheck"
# A script is known by its first line, whatever its name.
git -c safe.directory="$root" ls-files -z | xargs -0 grep -lIZE -m 1 '^(#!(/usr/bin/env bash|/bin/bash|/bin/sh)|# shellcheck shell=bash)$' -- | xargs -0 shellcheck
for module in . tests hack/kind/programs; do
	echo "lint: go mod tidy in $module"
	(cd "$module" && go mod tidy -diff)
done
