# Everything runs in .venv, which is made from constraints.txt (to run) and constraints-dev.txt (to test), hashes checked.
# ARGS goes to the command:  make demo ARGS="--for 60s"    make test ARGS="-k schedule"    make constraints ARGS=--upgrade

PYTHON ?= python3
PIP_TOOLS = pip-tools==7.6.2

# What the tests start for themselves: mail, Prometheus and Alertmanager, systemd, wrong clocks, a browser (and
# what its driver lacks on a bare system); as Debian packages.
TEST_BED = postfix dovecot-imapd dovecot-lmtpd dovecot-sieve prometheus prometheus-alertmanager openssl nftables \
	systemd-container libfaketime chromium libatomic1
# What `make bench` measures itself against.
PEERS = monitoring-plugins-contrib libnet-smtp-tls-perl libmail-imapclient-perl libio-socket-ssl-perl
# Debian's Python comes without ensurepip.
VENV_PACKAGE = $(shell "$(PYTHON)" -c "import venv, ensurepip" 2>/dev/null || echo python3-venv)

PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet
PYTHON_CHECK = "$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || \
	{ echo "mailprobe needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; exit 1; }

.DEFAULT_GOAL = help
.NOTPARALLEL:
.PHONY: help demo test lint dashboards bench soak chaos fuzz deb constraints clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.* ## /make \1\t/p' Makefile | expand -t 20

demo: .venv/run.stamp ## watch mailprobe measure an embedded mail provider
	.venv/bin/mailprobe demo $(ARGS)

test: .venv/dev.stamp ## all tests, against real servers (as root: installs their Debian packages)
	@deploy/debian-packages.sh $(TEST_BED)
	.venv/bin/python -m pytest -n 2 $(ARGS)

lint: .venv/dev.stamp ## style, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

dashboards: .venv/dev.stamp ## write grafana/dashboards/*.json anew
	.venv/bin/python -m grafana

bench: .venv/dev.stamp ## accuracy, cost and what looking costs, measured on real servers
	@deploy/debian-packages.sh $(TEST_BED) $(PEERS)
	.venv/bin/python -m tests.bench $(ARGS)

soak: .venv/dev.stamp ## ten minutes, 20 routes, real servers: is every probe accounted for?
	@deploy/debian-packages.sh $(TEST_BED)
	.venv/bin/python -m tests.soak $(ARGS)

chaos: .venv/dev.stamp ## ten minutes of kill -9 while its servers freeze, restart and vanish: the same question
	@deploy/debian-packages.sh $(TEST_BED)
	.venv/bin/python -m tests.chaos $(ARGS)

fuzz: .venv/fuzz.stamp ## every parser of foreign bytes against what nobody sends, a minute each
	.venv/bin/python -m tests.fuzz $(ARGS)

deb: ## dist/mailprobe_*.deb, with its libraries inside; for `apt install ./mailprobe_*.deb`
	deploy/deb.sh

.venv/run.stamp: pyproject.toml constraints.txt
	@$(PYTHON_CHECK)
	@deploy/debian-packages.sh $(VENV_PACKAGE)
	"$(PYTHON)" -m venv .venv
	$(PIP) install --require-hashes -r constraints.txt
	@# --no-index: what constraints.txt lacks is an error here, not a download
	$(PIP) install --no-index --no-build-isolation -e ".[demo,speed]"
	@touch $@

.venv/dev.stamp: .venv/run.stamp constraints-dev.txt
	$(PIP) install --require-hashes -r constraints-dev.txt
	@touch $@

# Apart from the others: atheris comes as a wheel for some Pythons only, and nothing but `make fuzz` needs it.
.venv/fuzz.stamp: .venv/dev.stamp constraints-fuzz.txt
	$(PIP) install --only-binary :all: --require-hashes -r constraints-fuzz.txt
	@touch $@

# PIP_FIND_LINKS is unset because hashes of local files are not those of a whole release.
COMPILE = env -u PIP_FIND_LINKS CUSTOM_COMPILE_COMMAND="make constraints" .cache/pip-tools/bin/python -m piptools compile \
	--quiet --no-config --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links $(ARGS)
TOOLS = import sys, tomllib; \
	tools = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'][sys.argv[1]]; \
	print(*(tool for tool in tools if not tool.startswith('mailprobe[')), sep='\n')

constraints: ## pin again what pyproject.toml asks for (ARGS=--upgrade: the newest)
	@# with the oldest Python that is supported: newer ones need nothing more
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))" 2>/dev/null || \
		{ echo "constraints are made with Python 3.11: make constraints PYTHON=/path/to/python3.11" >&2; exit 1; }
	@deploy/debian-packages.sh $(VENV_PACKAGE)
	"$(PYTHON)" -m venv .cache/pip-tools
	.cache/pip-tools/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_TOOLS)
	printf '%s\n' hatchling editables pip | $(COMPILE) --extra demo --extra speed -o constraints.txt pyproject.toml -
	"$(PYTHON)" -c "$(TOOLS)" dev | $(COMPILE) -c constraints.txt -o constraints-dev.txt -
	"$(PYTHON)" -c "$(TOOLS)" fuzz | $(COMPILE) -c constraints-dev.txt -o constraints-fuzz.txt -
	sed -i 's/-r -$$/make constraints/' constraints.txt constraints-dev.txt constraints-fuzz.txt

clean: ## remove .venv and all caches
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
