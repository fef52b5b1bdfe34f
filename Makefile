# podwire: `make` prints the targets. Each works on a fresh Debian or Ubuntu
# machine, as root: what is missing is installed first.

GO       := ./hack/go.sh
# libvirt.so is opened when the launcher runs, and needs no headers to build.
TAGS     := -tags libvirt_dlopen
LDFLAGS  := -trimpath -ldflags '-s -w'
FUZZTIME ?= 60s
SOAK     ?= 10m
# Passed to go test, such as TESTFLAGS=-v.
TESTFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help install build demo test unit short-fuzz local matrix compatibility bindings reliability soak fuzz bench lint update clean
.PHONY: images cluster load cluster-down e2e e2e-offline

# What a cluster is made of: with OFFLINE=1, without a registry (docs/kubernetes.md).
ENGINE   := $(if $(filter 1,$(OFFLINE)),cluster)

help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## install what building and testing need
	@./hack/install.sh build test

build: ## build bin/podwire and bin/podwire-launcher
	@./hack/install.sh build
	CGO_ENABLED=0 $(GO) build $(LDFLAGS) -o bin/podwire ./cmd/podwire
	CGO_ENABLED=1 $(GO) build $(TAGS) $(LDFLAGS) -o bin/podwire-launcher ./cmd/podwire-launcher

demo: install build ## boot a real VM on a real pod network, and put it back
	@echo "building and running the demo"
	@cd tests && ../hack/go.sh run ./cmd/demo

test: build unit short-fuzz local matrix ## run all tests: pure, kernel, pod networks, DHCP clients, VMs
	@echo "all tests passed"

unit: install ## the tests of each package, kernel and namespaces included
	$(GO) test $(TAGS) -race -shuffle=on $(TESTFLAGS) ./...
	cd hack/kind/programs && ../../go.sh test $(TESTFLAGS) ./...

short-fuzz: install ## each fuzz target 20000 times
	@./hack/fuzz.sh 20000x

local: install build ## real DHCP clients and real VMs on real pod networks
	cd tests && ../hack/go.sh test -count=1 $(TESTFLAGS) $$(../hack/go.sh list ./... | grep -vE 'tests/(matrix|clients|bindings)$$')

matrix: install build ## every pod network, DHCP client and binding, as tables
	@mkdir -p build/matrix build/bindings && rm -f build/matrix/* build/bindings/*
	cd tests && PODWIRE_MATRIX_OUT=$(CURDIR)/build/matrix PODWIRE_BINDINGS_OUT=$(CURDIR)/build/bindings \
		../hack/go.sh test -p 1 -count=1 $(TESTFLAGS) ./matrix ./clients ./bindings
	@cat build/matrix/cni.txt build/matrix/clients.txt

compatibility: matrix ## write docs/compatibility.md anew
	cd tests && ../hack/go.sh run ./cmd/compatibility ../build/matrix >../build/compatibility.md
	mv build/compatibility.md docs/compatibility.md

bindings: install build ## measure the bindings side by side, and write docs/bindings.md anew
	@mkdir -p build/bindings && rm -f build/bindings/*
	cd tests && PODWIRE_BINDINGS_OUT=$(CURDIR)/build/bindings \
		../hack/go.sh test ./bindings -count=1 -timeout 30m $(TESTFLAGS) -bench Figures -benchtime 1x
	cd tests && ../hack/go.sh run ./cmd/bindings ../build/bindings >../build/bindings.md
	mv build/bindings.md docs/bindings.md

reliability: install build ## prove docs/reliability.md in full, or one part of it (ONLY=killed), and write it anew
	@./hack/reliability.sh $(ONLY)

soak: install build ## a guest that renews its lease every second while faults are injected, for SOAK (10m)
	cd tests && PODWIRE_SOAK=$(SOAK) ../hack/go.sh test -count=1 -timeout 0 -parallel 3 -v $(TESTFLAGS) ./reliability/soak

images: ## build the container images
	@./hack/install.sh build guest $(ENGINE)
	@./images/build.sh

cluster: ## make a kind cluster of two nodes (LAYOUT=ptp|bridge|flannel, FAMILY=ipv4|dual|ipv6)
	@./hack/install.sh build $(ENGINE)
	@./hack/kind/cluster.sh create

load: ## give the images to the cluster's nodes
	@./hack/kind/cluster.sh load localhost/podwire:dev localhost/podwire-launcher:dev localhost/podwire-guest:dev

cluster-down: ## remove the cluster
	@./hack/kind/with.sh --down

e2e: ## VM pods in kind clusters: every shape on every pod network, in both families
	@./hack/install.sh build guest $(ENGINE)
	@./hack/e2e.sh

e2e-offline: ## the same without a registry
	@$(MAKE) --no-print-directory e2e OFFLINE=1

fuzz: install ## each fuzz target for FUZZTIME (60s)
	@./hack/fuzz.sh $(FUZZTIME)

bench: install ## benchmarks
	$(GO) test $(TAGS) -run '^$$' -bench . -benchmem ./...

lint: ## linters, formatting, tidiness of the modules
	@./hack/install.sh build lint
	@./hack/lint.sh

update: install ## write the golden files anew
	$(GO) test ./pkg/discover ./pkg/domxml ./pkg/plan -update
	cd tests && ../hack/go.sh test ./bindings/picture -update

clean: ## remove what was built
	rm -rf bin build
