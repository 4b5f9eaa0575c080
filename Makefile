# nacre needs Go and nothing else to build. The tests, the demo and the benchmarks
# run as root on Debian 12 and fetch the rest themselves (scripts/setup).

GO          ?= go
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK  = golang.org/x/vuln/cmd/govulncheck@v1.3.0
TESTFLAGS   ?= -v
W           ?= all
N           ?= 5

export CGO_ENABLED = 0

.PHONY: all build man docs demo test conformance runtime-conformance runsc bench lint bare vm clean

all: build

build:
	$(GO) build -trimpath -ldflags "-s -w" -o bin/nacre ./cmd/nacre

# Manual pages, to be put where man looks for them.
man: build
	bin/nacre manual bin/man

# docs/commands.md, of what the commands say of themselves.
docs: build
	bin/nacre manual --markdown docs

# The main job on real input, told step by step.
demo: build
	@scripts/demo bin/nacre

# Every test there is. One package, one test: make test TESTFLAGS='-run TestNginx'
test: build
	@scripts/setup tools
	$(GO) vet ./...
	$(GO) test -count=1 -timeout 15m $(TESTFLAGS) ./...

# What others' Dockerfiles become, beside what BuildKit makes of them. CASES='copy.*' for some.
conformance: build
	@scripts/setup tools
	cd conformance && $(GO) vet ./... && $(GO) test -count=1 ./... && $(GO) run . -run '$(CASES)'

# The validation programs of OCI's runtime-tools, with our sandbox as the runtime, or RUNTIME=runc. PROGRAMS='default mounts' for some.
runtime-conformance: build
	scripts/runtime-conformance $(or $(RUNTIME),bin/nacre) $(PROGRAMS)

# The scripts that hold whoever runs the containers, by gVisor's runsc, which is built for that: minutes, the first time.
runsc: build
	@scripts/setup tools
	PATH="$$(scripts/setup runsc):$$PATH" NACRE_TEST_RUNSC=1 $(GO) test -count=1 $(TESTFLAGS) -run TestScriptsByRuntime/runsc ./cmd/nacre

# make bench W=W3 runs one workload; W=W1,W3 some; W=curves how costs grow. N=11 more rounds, N=5,W2=3 fewer of one.
bench: build
	@scripts/setup tools bench
	$(GO) run ./bench -nacre bin/nacre -w $(W) -n $(N)

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'gofmt would change these'; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@scripts/vulncheck $(GO) $(GOVULNCHECK)
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo 'golangci-lint is not installed: its configuration was not run'; fi

# demo and test once more, in a bare Debian with nothing but Go and make.
bare:
	test/bare.sh

# Tests and checks on other kernels, in virtual machines with cgroups of version 2. KERNELS=6.1 for one.
vm:
	@scripts/setup tools vm
	test/vm/vm.sh $(KERNELS)

clean:
	rm -rf bin
