# All entry points. On a fresh machine `make demo` and `make test` install their tools.

SHELL := /bin/bash
# Architecture of `make build`: amd64 or arm64, by default that of this machine.
TARGET_amd64 := x86_64-unknown-linux-gnu
TARGET_arm64 := aarch64-unknown-linux-gnu
HOST_ARCH := $(if $(filter aarch64,$(shell uname -m)),arm64,amd64)
ARCH ?= $(HOST_ARCH)
TARGET := $(or $(TARGET_$(ARCH)),$(error ARCH=$(ARCH) is not amd64 or arm64))
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER := x86_64-linux-gnu-gcc
# Host and guest use the same static build. The flag needs --target, since proc-macros can't be static. Without the
# other flags the programs have the builder's folders in their messages, and differ from one folder to another.
CRATES := $(or $(CARGO_HOME),$(HOME)/.cargo)
STATIC := RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(CRATES)=cargo" \
  cargo build --release --locked --target
# Programs of `make build`, and programs that run here.
BUILT := target/$(TARGET)/release
BIN := target/$(TARGET_$(HOST_ARCH))/release
# Hash of the sources of a build, which tests compare with the present ones.
STAMP := $(BIN)/source-stamp
IMAGE := target/image
# For tests that need a kernel which deletes tracked connections by a filter.
IMAGE_6_12 := target/image-6.12
# For tests beside systemd, udev and network managers.
IMAGE_DEBIAN := target/image-debian
# For tests on the machine `virt`.
IMAGE_ARM64 := target/image-arm64
KERNEL_6_12 := linux-image-6.12.117+deb12-cloud-amd64
FUZZ_SECONDS ?= 60
SEED ?= 0
STEPS ?= 1000000
export PATH := $(PATH):$(HOME)/.cargo/bin
export PATCHBAY_BIN_DIR := $(CURDIR)/$(BIN)
export PATCHBAY_IMAGE_DIR := $(CURDIR)/$(IMAGE)
export PATCHBAY_IMAGE_6_12_DIR := $(CURDIR)/$(IMAGE_6_12)
export PATCHBAY_IMAGE_DEBIAN_DIR := $(CURDIR)/$(IMAGE_DEBIAN)
export PATCHBAY_IMAGE_ARM64_DIR := $(CURDIR)/$(IMAGE_ARM64)

.PHONY: man docs install packages check-packages check-hooks reproducible sbom release help demo test test-full test-arm64 bench replay fuzz mutants msrv soak simulate lint build image image-6.12 image-debian image-arm64 cni-driver clean \
  audit setup-run setup-lint setup-test setup-docs setup-debian setup-fuzz setup-target setup-packages setup-hooks setup-mutants

help: ## This list
	@sed -n 's/^\([a-z0-9.-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: image ## Plug a card into a live guest, use it, unplug it
	scripts/demo.sh

# Tests with a guest and many points or random cases, each of a minute or more.
SWEEPS := binary(e2e) & (test(/_killed/) | test(/failing_call/) | test(/interrupted/) \
  | test(/^(random|document::random|ipvs_differential|conntrack_differential)::/))
# Another third in each run, and all of them before a release: `make test THIRD=2` repeats one. Both commands of a test
# select the whole workspace, or crates would be built again with other features.
THIRD ?= $(shell shuf -i 1-3 -n 1)
SETUP_TESTS := setup-test lint image-6.12 image-debian image-arm64 cni-driver

test: THIRD := $(THIRD)
test: $(SETUP_TESTS) ## Lint, unit, network namespaces, QEMU guests; a sample of long sweeps
	cargo nextest run --workspace --locked -E '$(SWEEPS)' --partition hash:$(THIRD)/3
	cargo nextest run --workspace --locked -E 'not ($(SWEEPS))'

test-full: export PATCHBAY_FULL := 1
test-full: export NEXTEST_PROFILE := full
test-full: $(SETUP_TESTS) ## The same with whole sweeps and long random runs, before a release
	cargo nextest run --workspace --locked

test-arm64: setup-test ## Unit and namespace tests of the agent's crates for arm64, under qemu-user, before a release
	@scripts/setup.sh target $(TARGET_arm64)
	@scripts/setup.sh emulator
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
	  cargo nextest run --profile arm64 --locked --target $(TARGET_arm64) \
	  $(addprefix -p patchbay-,types grammar codec wire netlink netcfg)

cni-driver: target/cni-driver ## The program that runs CNI plugins through libcni, for the tests

# From Debian's packages, without a network.
target/cni-driver: tests/cni-driver/main.go | setup-test
	cd tests/cni-driver && GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS=-buildvcs=false \
	  go build -o $(CURDIR)/$@ .

soak: image ## Thousands of rounds in one guest (SOAK_ROUNDS=2000, SOAK_RESTORES=200), to find leaks
	cargo run --quiet --locked -p patchbay-tests --example soak

simulate: ## Commands against models of QEMU and the guest, with a fault at each step (SEED=0, STEPS=1000000)
	cargo build --quiet --locked -p patchbay-tests --example simulated-command
	SEED=$(SEED) STEPS=$(STEPS) cargo run --quiet --locked -p patchbay-tests --example simulation

replay: ## Run the fuzz corpus with the stable toolchain
	cargo nextest run --locked -p patchbay-fuzz

fuzz: setup-fuzz ## Run each fuzz target for FUZZ_SECONDS (60); needs a nightly toolchain
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

MUTANTS ?= codec netlink

mutants: setup-mutants ## Mutations of crates (MUTANTS="codec netlink"), each of which a test has to catch; an hour
	cargo mutants --output target $(addprefix --package patchbay-,$(MUTANTS))

MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

msrv: setup-run ## Check all crates with the oldest compiler that builds them, before a release
	cargo +$(MSRV) --version >/dev/null || rustup toolchain install $(MSRV) --profile minimal
	cargo +$(MSRV) check --workspace --all-targets --locked --target-dir target/msrv

bench: image-6.12 image-arm64 ## Speed and size compared with peers and the floor; QUICK=1 takes six minutes
	QUICK=$(QUICK) cargo run --locked --package patchbay-tests --example bench -- $(ROWS)

lint: setup-lint ## Format, clippy, docs, dependencies, shell scripts, file sizes, wording, links, manifests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	cargo deny --log-level error check bans licenses sources
	scripts/check-tree.sh
	scripts/check-words.sh
	scripts/check-links.py
	scripts/check-manifests.sh

audit: setup-lint ## Check Cargo.lock for known vulnerabilities (ADVISORY_DB=folder or archive, for use offline)
	scripts/audit.sh $(ADVISORY_DB)

# The agent by itself, or it would have the features of crates that only the host needs: its size is limited.
build: setup-run setup-target ## The programs, statically linked (ARCH=amd64 or arm64)
	@mkdir -p target/$(TARGET)/release && cd target/$(TARGET)/release && rm -f source-stamp && \
	  $(CURDIR)/scripts/source-stamp.sh >source-stamp.new
	$(STATIC) $(TARGET) --workspace --exclude patchbay-fuzz --exclude patchbay-agent --bins
	$(STATIC) $(TARGET) -p patchbay-agent --bins
	@cd target/$(TARGET)/release && mv source-stamp.new source-stamp

image: build ## Kernel and initramfs for sandboxes, with the reference tools of the tests
	$(BIN)/patchbay-sandbox build --tools
	@cp $(STAMP) $(IMAGE)

image-6.12: image ## A second image with Linux 6.12
	$(BIN)/patchbay-sandbox build --image $(IMAGE_6_12) --kernel $(KERNEL_6_12) --tools-of $(IMAGE)
	@cp $(STAMP) $(IMAGE_6_12)

image-debian: setup-debian image ## A third image with Debian, systemd and network managers
	tests/debian/build.sh $(IMAGE) $(IMAGE_DEBIAN)
	@cp $(STAMP) $(IMAGE_DEBIAN)

# Only the programs of guests, which take a third of the time.
image-arm64: image ## A fourth image, for arm64
	scripts/setup.sh target $(TARGET_arm64)
	$(STATIC) $(TARGET_arm64) -p patchbay-agent -p patchbay-init -p patchbay-baseline --bins
	$(BIN)/patchbay-sandbox build --arch arm64 --image $(IMAGE_ARM64) --tools \
	  --bin-dir target/$(TARGET_arm64)/release
	@cp $(STAMP) $(IMAGE_ARM64)

man: ## Write the manual pages of the commands to docs/man
	cargo run --quiet --locked -p patchbay -- man docs/man

docs: setup-docs ## A site of the documents in target/site, without dead links
	scripts/site.sh

PREFIX ?= /usr/local
SHARE := $(DESTDIR)$(PREFIX)/share

install: ## Install what `make build` has built (PREFIX=/usr/local, DESTDIR=)
	install -D -t $(DESTDIR)$(PREFIX)/bin $(addprefix $(BUILT)/,patchbay patchbay-sandbox patchbay-agent)
	install -D -t $(DESTDIR)$(PREFIX)/lib/patchbay/guest $(addprefix $(BUILT)/,patchbay-init patchbay-agent)
	ln -sf patchbay $(DESTDIR)$(PREFIX)/bin/patchbay-cni
	ln -sf patchbay $(DESTDIR)$(PREFIX)/bin/patchbay-qemu
	install -D -m 644 -t $(SHARE)/man/man1 docs/man/*.1
	install -D -m 644 -t $(SHARE)/man/man8 docs/man/*.8
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	set -e; umask 022; for program in patchbay patchbay-sandbox; do \
	  $(BIN)/$$program completions bash >$(SHARE)/bash-completion/completions/$$program; \
	  $(BIN)/$$program completions zsh >$(SHARE)/zsh/site-functions/_$$program; \
	  $(BIN)/$$program completions fish >$(SHARE)/fish/vendor_completions.d/$$program.fish; \
	done
	install -D -m 644 deploy/config.toml $(SHARE)/doc/patchbay/config.toml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system \
	  guest-image/overlay/*.service guest-image/overlay/*.socket deploy/patchbay-watch.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/network guest-image/overlay/00-0-patchbay.*
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/udev/rules.d guest-image/overlay/70-patchbay.rules
	install -d $(SHARE)/patchbay/kubernetes && cp -R deploy/kubernetes/. $(SHARE)/patchbay/kubernetes
	chmod -R u=rwX,go=rX $(SHARE)/patchbay/kubernetes
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system-preset guest-image/overlay/90-patchbay.preset
	install -D -t $(DESTDIR)$(PREFIX)/lib/patchbay guest-image/hooks/agent-control
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/patchbay guest-image/hooks/modules
	install -d $(SHARE)/initramfs-tools && cp -R guest-image/hooks/initramfs-tools/. $(SHARE)/initramfs-tools
	chmod -R u=rwX,go=rX $(SHARE)/initramfs-tools
	install -D -m 644 -t $(SHARE)/doc/patchbay-agent guest-image/hooks/mkosi/mkosi.conf
	install -D -t $(DESTDIR)$(PREFIX)/lib/dracut/modules.d/90patchbay-agent guest-image/hooks/dracut/module-setup.sh
	sed -i 's,/usr/bin/patchbay,$(PREFIX)/bin/patchbay,' \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system/patchbay-*.service

# The completions are printed by the programs that run here.
packages: build setup-packages ## .deb, .rpm and archives of ARCH in target/packages
	@[ $(ARCH) = $(HOST_ARCH) ] || $(MAKE) build ARCH=$(HOST_ARCH)
	rm -rf target/stage
	$(MAKE) --no-print-directory install ARCH=$(ARCH) PREFIX=/usr DESTDIR=$(CURDIR)/target/stage
	scripts/packages.sh $(ARCH) target/stage target/packages

sbom: ## Bill of materials of the programs, in target/packages (CycloneDX)
	@scripts/setup.sh release
	@mkdir -p target/packages
	cargo cyclonedx --quiet --format json --target $(TARGET) --override-filename bom
	set -e; for package in host-shim/cli agent/daemon guest-image/launcher guest-image/init; do \
	  name=$$(sed -n 's/^name = "\(.*\)"/\1/p' $$package/Cargo.toml | head -1); \
	  mv $$package/bom.json target/packages/$$name.cdx.json; \
	done
	@find . -path ./target -prune -o -name bom.json -exec rm {} +

release: ## Prepare the release VERSION: commit, tests, packages, tag (docs/releasing.md)
	scripts/release.sh $(VERSION)

reproducible: ## Build the packages in two new folders and compare them, before a release
	scripts/reproducible.sh

check-packages: packages ## lintian, rpmlint, life and use of the packages of ARCH in a fresh Debian root; amd64 also with a running guest (PREVIOUS=folder)
	@[ $(ARCH) = $(HOST_ARCH) ] || scripts/setup.sh emulator
	scripts/check-packages.sh target/packages $(ARCH)
	[ $(ARCH) != amd64 ] || scripts/check-upgrade.sh target/packages $(PREVIOUS)

check-hooks: packages setup-hooks ## Guest images by initramfs-tools, dracut, mkosi and others, built in a Debian root and booted (HOOKS=dracut: one of them); before a release
	scripts/check-hooks.sh target/packages $(HOOKS)

setup-hooks: setup-run
	@scripts/setup.sh hooks

setup-packages:
	@scripts/setup.sh packages

setup-run:
	@scripts/setup.sh run

setup-lint:
	@scripts/setup.sh lint

setup-test: setup-run setup-lint
	@scripts/setup.sh test

setup-docs:
	@scripts/setup.sh docs

setup-debian:
	@scripts/setup.sh debian

setup-target:
	@scripts/setup.sh target $(TARGET)

setup-fuzz:
	@scripts/setup.sh fuzz

setup-mutants:
	@scripts/setup.sh mutants

clean: ## Remove what was built
	cargo clean
