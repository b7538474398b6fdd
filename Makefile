# GNU make 4.3 or newer, bash, Go 1.26. `make` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.NOTPARALLEL:

BIN      := bin/whodunit
DATA_DIR ?= .whodunit
EXAMPLES ?= examples/apiserver-1.36.log.zst examples/shop.log.zst
PKG      ?= ./...
FUZZTIME ?= 10s
SOAK     ?= 10m
RACE     ?= 1

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
GOVER   := $(shell go env GOVERSION)

# What the tests and checks need and the repository does not hold is built once and kept here.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/whodunit-test
TOOLS := $(CACHE)/tools

GOLANGCI_VERSION    := v2.15.0
GOLANGCI            := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)-$(GOVER)/golangci-lint
# v1.9.0 needs a version of x/telemetry that not every module mirror serves.
GOVULNCHECK_VERSION := v1.8.0
GOVULNCHECK         := $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION)-$(GOVER)/govulncheck
REPORT              := $(TOOLS)/testreport

.PHONY: help build run parts test unit lint vulns race fuzz bench soak e2e corpus generate clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: $(BIN) ## compile the program to bin/whodunit

# The go command knows best what changed, so it is always asked.
.PHONY: $(BIN)
$(BIN):
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/whodunit

run: build ## start the server with recorded events of a real cluster; it prints its address and first login
	WHODUNIT_DATA=$(DATA_DIR) $(BIN) serve $(foreach f,$(EXAMPLES),--import $(f))

parts: ## get what the tests need: a real Kubernetes API server (built once, 8 minutes on 2 cores), Chromium
	test/parts.sh

test: parts unit ## run every test, real parts included; at the end it says what was skipped and why
ifeq ($(RACE),1)
	$(MAKE) --no-print-directory race
endif

unit: $(REPORT)
	go test -json -timeout 20m $(PKG) | $(REPORT)

race: $(REPORT) ## test the packages with goroutines under the race detector (needs a C compiler)
	test/race.sh $(REPORT)

lint: $(GOLANGCI) ## check formatting, vet, linters, import direction, sizes, links, scripts, known vulnerabilities
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'gofmt is needed for:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go vet ./...
	go run ./test/tools/sizecheck
	go test ./test/docs
	$(GOLANGCI) config verify
	$(GOLANGCI) run ./...
	go run ./test/tools/lintproof $(GOLANGCI)
	test/shellcheck.sh
	@$(MAKE) --no-print-directory vulns

vulns: ## look for known vulnerabilities in what the program calls (asks a database on the internet)
	test/vulns.sh $(GOVULNCHECK) $(GOVULNCHECK_VERSION)

fuzz: ## run every fuzz target for FUZZTIME each (10s)
	test/fuzz.sh $(FUZZTIME)

bench: build ## measure the figures of docs/performance.md on the real program, and write them there; then every Go benchmark
	go run ./test/bench/scan -bin $(BIN) -o docs/performance.md
	go run ./test/bench -bin $(BIN) -o docs/performance.md
	go test -run '^$$' -bench . -benchmem -p 1 -timeout 60m $(PKG)

soak: parts ## run the long tests: 1,000 kill -9 of a journal, and whatever is named Soak for SOAK (10m)
	WHODUNIT_SOAK_CYCLES=1000 go test -count 1 -run TestKill9 -timeout 1h -v ./internal/journal
	WHODUNIT_SOAK=$(SOAK) go test -count 1 -run Soak -timeout 12h -v ./test/...

e2e: parts ## test the whole program against a real cluster and a real browser
	go test -count 1 -timeout 30m -v ./test/e2e/...

corpus: parts ## record again what the rules are held to: attacks, and a healthy cluster (12 minutes, Linux)
	test/corpus/record.sh attack
	test/corpus/record.sh benign -for 9m
	go test -count 1 -run 'Corpus$$' -v ./internal/detect

generate: ## rewrite generated code (golden files: go test PACKAGE -update)
	go generate ./...

clean: ## remove what was built (DATA_DIR and the cache of test parts stay)
	rm -rf bin dist
	find . -name '*.test' -o -name '*.prof' | grep -v '^./.git/' | xargs -r rm -f

$(GOLANGCI):
	CGO_ENABLED=0 GOFLAGS=-trimpath GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: $(REPORT)
$(REPORT):
	@CGO_ENABLED=0 go build -trimpath -o $@ ./test/tools/testreport
