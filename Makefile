# What people do with a checkout. Every target installs the few Debian packages that it lacks, and says so.
PREFIX  ?= /usr/local
SHARE   ?= $(PREFIX)/share
# Where bash, fish and zsh look.
COMPLETION := bash-completion/completions/corten fish/vendor_completions.d/corten.fish zsh/site-functions/_corten
UNITS   ?= $(PREFIX)/lib/systemd/system
TARGET  := $(shell rustc --print host-tuple 2>/dev/null || rustc -vV | sed -n 's/^host: //p')
BINARY  := target/$(TARGET)/release/corten

.PHONY: fuzz help build release test lint unit demo bench install image clean packages

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

build:  ## a binary for development
	@.ci/packages build
	cargo build

release: $(BINARY)  ## the binary as it is shipped: static, optimised

$(BINARY): FORCE
	@.ci/packages build
	cargo build --release --package corten

demo: release  ## build, start a daemon, run a limited web server, look at it, clean up
	@.ci/packages demo
	examples/demo.sh $(BINARY)

test:  ## everything that CI checks
	@.ci/packages build test
	.ci/check

fuzz:  ## every endpoint, from docs/openapi.json, with schemathesis
	@.ci/packages build test
	cargo build --package corten
	ci/fuzz/run target/$(TARGET)/debug/corten

bench: release  ## side by side with the engines that are installed here (bench/README.md)
	@.ci/packages build bench
	bench/run $(BINARY)

install: release  ## the binary to $(PREFIX)/bin, its units, manual pages and completion (DESTDIR is respected)
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/corten
	install -d $(DESTDIR)$(UNITS)
	sed 's|@bindir@|$(PREFIX)/bin|' contrib/systemd/corten.service >$(DESTDIR)$(UNITS)/corten.service
	install -m 644 contrib/systemd/corten.socket $(DESTDIR)$(UNITS)/corten.socket
	$(BINARY) manual $(DESTDIR)$(SHARE)/man/man1
	install -d $(foreach place,$(COMPLETION),$(DESTDIR)$(SHARE)/$(dir $(place)))
	$(BINARY) completion bash >$(DESTDIR)$(SHARE)/$(word 1,$(COMPLETION))
	$(BINARY) completion fish >$(DESTDIR)$(SHARE)/$(word 2,$(COMPLETION))
	$(BINARY) completion zsh >$(DESTDIR)$(SHARE)/$(word 3,$(COMPLETION))

image: release  ## target/corten-demo.tar: busybox and a web server, for `docker load`
	@.ci/packages demo
	examples/image.sh target/corten-demo.tar

clean:  ## what the builds left
	cargo clean

FORCE:
