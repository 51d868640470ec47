# What can be done with a clone. `make test` works on a fresh Debian machine with
# Rust and a C compiler: whatever else the tests need is installed here.

GRPCURL := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
TOOLS := $(CURDIR)/target/tools
# Root needs no sudo, and a bare machine has none.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -y -qq

.PHONY: test lint demo bench tools postgres

# Everything: the real binary, real databases, real clients.
test: tools
	cargo test </dev/null

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# A server of its own, three tasks with live bars, their results.
demo:
	cargo run --release -- demo

# CreateTask with 256 in flight, beside one insert and one commit a request.
bench:
	cargo bench --bench create

tools: postgres $(TOOLS)/grpcurl

# A PostgreSQL of the distribution; the tests start a throw-away server with it.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
		|| { $(APT) update && $(APT) install --no-install-recommends postgresql </dev/null; }

# A client that shares no code with the server.
$(TOOLS)/grpcurl:
	@command -v go >/dev/null 2>&1 \
		|| { $(APT) update && $(APT) install --no-install-recommends golang-go </dev/null; }
	GOBIN=$(TOOLS) go install $(GRPCURL)
