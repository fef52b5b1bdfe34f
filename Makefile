# podwire: `make` prints the targets. Each works on a fresh Debian or Ubuntu
# machine, as root: what is missing is installed first.

GO       := ./hack/go.sh
# libvirt.so is opened when the launcher runs, and needs no headers to build.
TAGS     := -tags libvirt_dlopen
LDFLAGS  := -trimpath -ldflags '-s -w'
FUZZTIME ?= 60s
# Passed to go test, such as TESTFLAGS=-v.
TESTFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help install build demo test unit short-fuzz local fuzz bench lint fmt update clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## install what building and testing need
	@./hack/install.sh build test

build: ## build bin/podwire and bin/podwire-launcher
	@./hack/install.sh build
	CGO_ENABLED=0 $(GO) build $(LDFLAGS) -o bin/podwire ./cmd/podwire
	CGO_ENABLED=1 $(GO) build $(TAGS) $(LDFLAGS) -o bin/podwire-launcher ./cmd/podwire-launcher

demo: install build ## boot a real VM on a real pod network, and put it back
	@echo "building and running the demo"
	@cd tests && ../hack/go.sh run ./cmd/demo

test: build unit short-fuzz local ## run all tests: pure, kernel, DHCP clients, VMs
	@echo "all tests passed"

unit: install ## the tests of each package, kernel and namespaces included
	$(GO) test $(TAGS) -race -shuffle=on $(TESTFLAGS) ./...

short-fuzz: install ## each fuzz target 20000 times
	@./hack/fuzz.sh 20000x

local: install build ## real DHCP clients and real VMs on real pod networks
	cd tests && ../hack/go.sh test -count=1 $(TESTFLAGS) ./...

fuzz: install ## each fuzz target for FUZZTIME (60s)
	@./hack/fuzz.sh $(FUZZTIME)

bench: install ## benchmarks
	$(GO) test $(TAGS) -run '^$$' -bench . -benchmem ./...

lint: ## linters, formatting, tidiness of the modules
	@./hack/install.sh build lint
	@./hack/lint.sh

update: install ## write the golden files anew
	$(GO) test ./pkg/discover ./pkg/domxml ./pkg/plan -update

clean: ## remove what was built
	rm -rf bin build
