# t5ctl: `make help` lists what there is. Tools are built at the versions below into build/tools;
# nothing else is installed but the compute plugin, which `t5ctl backend install` puts into the
# user's data folder ($T5CTL_PLUGIN_DIR changes where).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

GOLANGCI_VERSION   := v2.15.0
DEADCODE_VERSION   := v0.50.0
GORELEASER_VERSION := v2.16.0
GOTESTSUM_VERSION  := v1.13.0
COSIGN_VERSION     := v3.1.3

TOOLS      := $(CURDIR)/build/tools
GOLANGCI   := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
DEADCODE   := $(TOOLS)/deadcode-$(DEADCODE_VERSION)/deadcode
GOTESTSUM  := $(TOOLS)/gotestsum-$(GOTESTSUM_VERSION)/gotestsum
GORELEASER := $(TOOLS)/goreleaser-$(GORELEASER_VERSION)/goreleaser

# On amd64 the pure-Go backend needs this to be of use; one setting for all commands, so that all
# of them share one build cache.
ifeq ($(shell go env GOARCH),amd64)
export GOEXPERIMENT := simd
endif

# Packages where goroutines meet. The race detector makes graph and numeric code too slow, so none
# of these reaches GoMLX.
RACE := ./datasets ./eval ./eval/significance ./internal/atomicfile ./internal/mlflow ./internal/plugin ./internal/server ./registry/...

# Packages whose tests reach GoMLX. XLA takes all cores, so their tests run one package at a time.
GOMLX = $(shell go list -test -f '{{if not .ForTest}}{{.ImportPath}} {{join .Deps " "}}{{end}}' ./... \
	| awk '/ github.com\/gomlx\/gomlx/ && $$1 ~ /[.]test$$/ {sub(/[.]test$$/, "", $$1); print $$1}')

# One line a package; at the end what failed, and what was skipped and why.
GOTEST := $(GOTESTSUM) --format pkgname -- -shuffle=on -timeout 15m

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/t5ctl
	go build -buildvcs=auto -o bin/t5ctl ./cmd/t5ctl

.PHONY: plugin
plugin: build ## install the XLA plugin for the CPU
	@bin/t5ctl backend install cpu || { \
		[ -z "$${T5CTL_REQUIRE_XLA:-}" ] || exit 1; \
		echo 'No XLA plugin: tests that need one will skip, and say so.' >&2; }

.PHONY: demo
demo: ## the life of a model on real data, in minutes: scripts/demo.sh
	scripts/demo.sh

.PHONY: newcomer
newcomer: ## README's path to a first model, in a bare folder with an empty home: scripts/newcomer.sh
	scripts/newcomer.sh

.PHONY: operations
operations: prometheus ## a canary's life on loopback, with a real Prometheus: scripts/operations.sh
	scripts/operations.sh

.PHONY: test
test: plugin $(GOTESTSUM) $(TOOLS)/distribution $(TOOLS)/k8scheck ## run all tests; installs what they need
	@echo 'packages without graphs'
	@$(GOTEST) $$(go list ./... | grep -vxFf <(printf '%s\n' $(GOMLX) $$(go list $(RACE))))
	@echo 'packages that reach GoMLX, one at a time'
	@$(GOTEST) -p 1 $(GOMLX)
	@$(MAKE) --no-print-directory test-race

.PHONY: test-race
test-race: $(GOTESTSUM) ## run the tests of the packages where goroutines meet, with the race detector
	@echo 'packages where goroutines meet, with the race detector'
	@$(GOTEST) -race $(RACE)

.PHONY: test-arm64
test-arm64: ## run the metrics' tests on arm64 under qemu-user; says so and does nothing without it
	@qemu=$$(PATH="$(TOOLS)/qemu/bin:$$PATH" command -v qemu-aarch64-static || command -v qemu-aarch64) || \
	{ echo 'SKIPPED: no qemu-aarch64; make check-tools, or install qemu-user, to run the metrics on arm64' >&2; exit 0; }; \
	GOARCH=arm64 GOEXPERIMENT= CGO_ENABLED=0 go test -exec "$$qemu" ./eval/...

.PHONY: check-report
check-report: build ## open the evaluation report in a headless Chromium; says so and does nothing without one
	@PATH="$(TOOLS)/chromium/bin:$$PATH" scripts/check-report.sh

.PHONY: check-view
check-view: build ## open the pages of `t5ctl runs view` in a headless Chromium; says so and does nothing without one
	@PATH="$(TOOLS)/chromium/bin:$$PATH" scripts/check-view.sh

.PHONY: check-terminal
check-terminal: build ## look at the screen of a real terminal, of 80 and 200 columns; says so and does nothing without tmux
	@PATH="$(TOOLS)/tmux/bin:$$PATH" scripts/check-terminal.sh

.PHONY: check
check: fmt-check tidy-check generate-check lint vet test check-report check-view check-terminal deadcode ## all that must hold before a change lands

.PHONY: fmt
fmt: ## format the Go files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

.PHONY: fmt-check
fmt-check: ## fail if a Go file is not formatted
	@wrong=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	[ -z "$$wrong" ] || { echo "not formatted (make fmt):"; echo "$$wrong"; exit 1; }

.PHONY: tidy-check
tidy-check: ## fail if go.mod is not what `go mod tidy` writes
	go mod tidy -diff

.PHONY: generate
generate: ## write the generated files that are kept: schemas, docs/cli
	go generate ./...

.PHONY: generate-check
generate-check: ## fail if a generated file is not up to date
	@scripts/unchanged.sh $(MAKE) --no-print-directory generate

.PHONY: lint
lint: $(GOLANGCI) ## run the linters
	$(GOLANGCI) run ./...

.PHONY: vet
vet: ## run go vet
	go vet ./...

# The plugin, which is C, calls what is in internal/device/pjrt.
.PHONY: deadcode
deadcode: $(DEADCODE) ## print functions that no command reaches; there must be none
	@dead=$$($(DEADCODE) ./cmd/... | grep -v '^internal/device/pjrt/' || true); \
	[ -z "$$dead" ] || { echo "$$dead"; exit 1; }

.PHONY: pins
pins: ## renew the table of plugin wheels from the package index INDEX
	scripts/pin-plugins.py "$(INDEX)" >internal/plugin/pins.json.new
	mv internal/plugin/pins.json.new internal/plugin/pins.json

.PHONY: check-platforms
check-platforms: ## compile for every platform of a release
	@for target in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do \
		echo "$$target"; \
		experiment=; [ "$${target#*/}" = amd64 ] && experiment=simd; \
		GOOS=$${target%/*} GOARCH=$${target#*/} CGO_ENABLED=0 GOEXPERIMENT=$$experiment go build -o /dev/null ./cmd/t5ctl; \
	done

.PHONY: release-check
release-check: $(GORELEASER) $(TOOLS)/containerfile ## check goreleaser.yaml and the syntax of Containerfile
	$(GORELEASER) check
	$(TOOLS)/containerfile Containerfile

.PHONY: release-docs
release-docs: ## write man pages and completions into build/release
	go run ./cmd/gendocs -release build/release

.PHONY: release-snapshot
release-snapshot: $(GORELEASER) $(TOOLS)/t5ctl-sbom ## build the archives of a release into dist/
	PATH="$(TOOLS):$$PATH" $(GORELEASER) release --snapshot --clean

.PHONY: release-verify
release-verify: ## check what is in dist/: archives, packages, bills of materials; runs the deb's binary
	scripts/release-verify.sh

.PHONY: release-reproducible
release-reproducible: ## build the commit twice, in two folders; the binaries must be the same bytes
	scripts/release-reproducible.sh

.PHONY: check-tools
check-tools: $(GOLANGCI) $(DEADCODE) $(TOOLS)/k8scheck prometheus debian-registry ## bring the tools that `make check` and `make test-arm64` use
	@scripts/debian-tools.sh $(TOOLS)/chromium chromium-headless-shell /usr/lib/chromium/chromium-headless-shell
	@command -v tmux >/dev/null || scripts/debian-tools.sh $(TOOLS)/tmux tmux /usr/bin/tmux
	@scripts/debian-tools.sh $(TOOLS)/qemu qemu-user-static /usr/bin/qemu-aarch64-static

.PHONY: prometheus
prometheus: ## take prometheus and promtool out of Debian's package; says so and does nothing where apt has none
	@[ -x $(TOOLS)/promtool ] || scripts/get-prometheus.sh $(TOOLS)

$(TOOLS)/k8scheck: tools/k8scheck/main.go tools/k8scheck/go.mod
	go -C tools/k8scheck build -o $@ .

$(GOLANGCI):
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(DEADCODE):
	GOBIN=$(@D) go install golang.org/x/tools/cmd/deadcode@$(DEADCODE_VERSION)

$(GOTESTSUM):
	GOBIN=$(@D) go install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)

$(GORELEASER):
	GOBIN=$(@D) go install github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)

$(TOOLS)/t5ctl-sbom: $(wildcard tools/sbom/*.go) tools/go.mod
	go -C tools build -o $@ ./sbom

$(TOOLS)/containerfile: $(wildcard tools/containerfile/*.go) tools/go.mod
	go -C tools build -o $@ ./containerfile

.PHONY: interop-tools
interop-tools: $(TOOLS)/distribution $(TOOLS)/oras $(TOOLS)/crane $(TOOLS)/cosign ## build the programs of others that `make interop` and `make test-faults` use

$(TOOLS)/distribution: tools/interop/go.mod
	go -C tools/interop build -o $@ github.com/distribution/distribution/v3/cmd/registry

$(TOOLS)/oras: tools/interop/go.mod
	go -C tools/interop build -o $@ oras.land/oras/cmd/oras

$(TOOLS)/crane: tools/interop/go.mod
	go -C tools/interop build -o $@ github.com/google/go-containerregistry/cmd/crane

$(TOOLS)/cosign:
	GOBIN=$(@D) go install github.com/sigstore/cosign/v3/cmd/cosign@$(COSIGN_VERSION)

.PHONY: debian-registry
debian-registry: ## unpack Debian's docker-registry for the fault tests, where apt reaches it
	@scripts/debian-tools.sh $(TOOLS)/debian-registry docker-registry /usr/bin/docker-registry

.PHONY: interop-venvs
interop-venvs: ## make the virtual environments of `make interop`, in ~/.cache/t5ctl-bench (gigabytes)
	scripts/interop-venvs.sh

.PHONY: interop
interop: build interop-tools ## check what t5ctl writes with the programs of others, and theirs with t5ctl
	scripts/interop.sh

.PHONY: test-faults
test-faults: build $(TOOLS)/distribution debian-registry ## the long fault tests of the registry, against real servers; writes docs/faults.md
	scripts/faults.sh docs/faults.md

.PHONY: test-kills
test-kills: ## kill training runs 120 times and let them go on; writes docs/faults-training.md
	scripts/kills.sh docs/faults-training.md

.PHONY: test-kills-xla
test-kills-xla: ## the same with XLA on the CPU, 5 kills with buckets and 5 with packing; prints what came of it
	T5CTL_TEST_KILLS=5 T5CTL_TEST_KILL_BACKEND=cpu go test -count=1 -v -timeout 30m -run '^TestKilledRuns' ./cmd/internal/cli

.PHONY: clean
clean: ## remove what was built, the tools too
	rm -rf bin dist build
