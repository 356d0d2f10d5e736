# `go` from PATH, else from where its installer puts it.
GO := $(or $(shell command -v go),$(wildcard /usr/local/go/bin/go),go)
export PATH := $(PATH):$(dir $(GO))

TIMEOUT  ?= 20m
FUZZTIME ?= 10s
BENCH    ?= .
TORTURE  ?= 10m
POLICY   ?= rollback fail degrade
RUN      ?=
MUTANT   ?= .
TOOL     := $(GO) tool -modfile=tools/go.mod
# Vet is lint's, with more analyzers: to vet each package and what it imports costs a tenth
# of a first run.
TEST      = $(GO) test -count=1 -vet=off -timeout=$(TIMEOUT) $(if $(RUN),-run '$(RUN)')
# Packages that take long come first, so that none is left alone at the end; one more at a
# time than two processors have work for, since many tests wait.
LONGEST   = ./internal/test/daemontest ./examples/demo ./internal/test/torture ./internal/state ./internal/test/crash ./reconcile
AT_A_TIME = $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n + 1)))

.DEFAULT_GOAL := help
.PHONY: help deps build demo test race lint fmt fuzz bench docs generated verify matrix torture evening capture capture-soak model mutate zoo badinputs vulns sbom peers integrations browser typescript ofrep clean

help: ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Make sure that PostgreSQL and Redis are here, or unpack them (asks on a terminal)
	@sh scripts/deps.sh

build: ## Build bin/migrator
	$(GO) build -trimpath -o bin/migrator ./cmd/migrator

demo: deps ## Move a storefront's records from PostgreSQL to Redis, with a rollback; CAPTURE=1: of a shop of plain SQL, by change capture
	$(GO) run ./examples/demo $(if $(CAPTURE),--capture)

test: deps ## Run all tests on private servers (RUN=regexp picks some)
	@sh scripts/test.sh $(TEST) -p $(AT_A_TIME) $(LONGEST) ./...
	cd openfeature && $(TEST) ./...
	cd opentelemetry && $(TEST) ./...

race: TIMEOUT = 40m
race: deps ## The same under the race detector (needs a C compiler)
	@CGO_ENABLED=1 sh scripts/test.sh $(TEST) -race ./...

lint: ## Run the linters of .golangci.yml, and vet the nested modules
	$(TOOL) golangci-lint run ./...
	cd openfeature && $(GO) tool -modfile=../tools/go.mod golangci-lint run -c ../.golangci.yml ./...
	cd opentelemetry && $(GO) tool -modfile=../tools/go.mod golangci-lint run -c ../.golangci.yml ./...
	cd internal/test/peers && $(GO) vet ./...
	cd examples/integrations && $(GO) vet ./...

fmt: ## Format with gofumpt
	$(TOOL) gofumpt -w .

fuzz: deps ## Fuzz every target for FUZZTIME (10s) each
	@sh scripts/fuzz.sh "$(GO)" $(FUZZTIME)

bench: deps ## Run the benchmarks (BENCH=regexp picks some)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout=1h ./...
	cd openfeature && $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout=1h ./...
	cd opentelemetry && $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout=1h ./...

peers: ## Compare the cost of dual with LaunchDarkly's Go migrator (downloads its SDK)
	cd internal/test/peers && $(GO) test -bench . -benchmem -benchtime 2ms -count 24 ./...

integrations: deps ## Test the examples with sqlc, GORM and ent (downloads them)
	cd examples/integrations && $(TEST) ./...

docs: ## Write generated documentation and examples again
	$(GO) generate ./...

generated: deps ## See that what is generated is up to date
	@sh scripts/generated.sh "$(GO)"

verify: test lint generated vulns ## All of it, as CI does

matrix: deps ## Run the stores' and the state's tests on PostgreSQL 14-18, Redis 7-8, Valkey 8-9 (SERVERS=…)
	GO="$(GO)" sh scripts/matrix.sh run $(SERVERS)

torture: deps ## Run the long fault tests (TORTURE=10m for each of POLICY)
	MIGRATOR_TORTURE=$(TORTURE) $(GO) test -count=1 -timeout=2h -run 'Torture' -skip '^TestTorture(Losses)?$$' -v ./...
	failed=0; for policy in $(POLICY); do \
		MIGRATOR_TORTURE=$(TORTURE) MIGRATOR_TORTURE_POLICY=$$policy $(if $(REPORT),MIGRATOR_TORTURE_REPORT=$(abspath $(REPORT))-$$policy.json) \
			$(GO) test -count=1 -timeout=4h -run '^TestTorture$$' -v ./internal/test/torture || failed=1; \
		MIGRATOR_TORTURE=$(TORTURE) MIGRATOR_TORTURE_POLICY=$$policy \
			$(GO) test -count=1 -timeout=4h -run '^TestTortureLosses$$' -v ./internal/test/cases || failed=1; \
	done; exit $$failed

evening: deps ## Let each store, the state, Prometheus and a receiver fail: each alert that should fires (15 min)
	MIGRATOR_EVENING=1 $(GO) test -count=1 -vet=off -timeout=40m -parallel 8 -run '^TestEvening$$' -v ./internal/test/daemontest

capture: deps ## Run the long tests of change capture (SEEDS=20 of SECONDS=20, one transaction of ROWS=5000000)
	MIGRATOR_CAPTURE_SEEDS=$(or $(SEEDS),20) MIGRATOR_CAPTURE_SECONDS=$(or $(SECONDS),20) MIGRATOR_CAPTURE_ROWS=$(or $(ROWS),5000000) MIGRATOR_CAPTURE_TRANSACTIONS=200000 \
		$(GO) test -count=1 -timeout=2h -run '^(TestCaptureConverges|TestAHugeTransaction|TestTheSpeed)$$' -v ./internal/capture

capture-soak: deps ## pgbench, kills, a lost slot and a failover: change capture converges (SECONDS=300 of load, SEEDS=1)
	MIGRATOR_CAPTURE_SOAK=$(or $(SECONDS),300) MIGRATOR_CAPTURE_SEEDS=$(or $(SEEDS),1) $(GO) test -count=1 -timeout=3h -run '^TestCaptureSoak$$' -v ./internal/capture

model: ## Search the model's large worlds too, and print the shortest trace of each mutation
	MIGRATOR_TORTURE=1s $(GO) test -count=1 -timeout=1h -v ./internal/test/model/...

mutate: deps ## Break each rule of docs/protocol.md: tests must fail (MUTANT=regexp picks some)
	MIGRATOR_MUTATE='$(MUTANT)' $(GO) test -count=1 -vet=off -timeout=6h -run '^TestMutants$$' -v ./internal/test/mutate

zoo: deps ## Move values of all types that the server can store, contrib's included, through each target
	MIGRATOR_ZOO=1 $(GO) test -count=1 -vet=off -timeout=30m -v ./internal/test/zoo

badinputs: deps ## Refuse 3,000 generated bad inputs (BADINPUTS=n, SEED=n for others)
	MIGRATOR_BADINPUTS=$(or $(BADINPUTS),3000) MIGRATOR_BADINPUTS_SEED=$(or $(SEED),1) $(GO) test -count=1 -vet=off -timeout=1h -run '^TestBadInputs$$' -v ./cmd/migrator

browser: deps ## Drive the page in Chromium, with axe-core (SCREENSHOTS=1 writes the pictures of docs/page.md)
	packages=$$(sh scripts/browser.sh) && MIGRATOR_BROWSER=$$packages MIGRATOR_SCREENSHOTS=$(SCREENSHOTS) \
		$(GO) test -count=1 -vet=off -timeout=20m -run '^TestThePageInABrowser$$' -v ./internal/test/daemontest

typescript: deps ## Run examples/typescript beside an instance in Go, under load (needs Node.js 20)
	compiled=$$(sh scripts/typescript.sh) && MIGRATOR_TYPESCRIPT=$$compiled \
		$(GO) test -count=1 -vet=off -timeout=20m -run '^TestAnInstanceInTypeScript$$' -v ./internal/test/daemontest

ofrep: deps ## Follow a migration with OpenFeature's SDKs and OFREP providers, in Node.js 20, Go and Chromium (downloads them)
	browser=$$(sh scripts/browser.sh) && packages=$$(sh scripts/ofrep.sh "$(GO)") && MIGRATOR_BROWSER=$$browser MIGRATOR_OFREP=$$packages \
		$(GO) test -count=1 -vet=off -timeout=20m -run '^TestOfficialClients$$' -v ./internal/test/daemontest

vulns: ## Look for known vulnerabilities in what is linked (needs vuln.go.dev)
	@sh scripts/vulns.sh "$(TOOL)"

sbom: ## Write bin/migrator.cdx.json, the CycloneDX bill of materials of the program
	@mkdir -p bin
	$(TOOL) cyclonedx-gomod app -json -licenses -output bin/migrator.cdx.json -main cmd/migrator .

clean: ## Remove what was built, unpacked and cached
	rm -rf bin
	@sh scripts/deps.sh clean
	$(GO) clean -testcache
