# `make` alone lists the targets. What runs, and how, is decided by orchestrator_manager.sh and share/setup/.
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON := .venv/bin/python
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
RECIPES := code_developer project_manager architect assistant recipe.bash
SCRIPTS := orchestrator_manager.sh bin/tmux-orc .ci/run $(wildcard share/setup/*.sh share/demo/*.sh) \
  $(addprefix share/agents/,$(RECIPES))
PYTHONS := lib tests share
CODE := $(DESTDIR)$(PREFIX)/lib/tmux-orchestrator
# These two shells look a completion up by the name of the command.
COMPLETION_BASH := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
COMPLETION_FISH := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' lib/tmux_orchestrator/__init__.py)
export PATH := $(CURDIR)/bin:$(CURDIR)/.venv/bin:$(CURDIR)/.tools/node_modules/.bin:$(PATH)
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup dev check test lint types unit commands bench bench-peers proof test-agents demo man install dist clean lock

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  %-12s %s\n", $$1, $$2 }'

setup: ## make .venv and install what is missing; start nothing
	@./orchestrator_manager.sh setup

dev:
	@./orchestrator_manager.sh setup --dev

check: lint types ## lint and types: seconds, no test

test: dev lint types unit commands ## set up the rest and run every test

lint: dev ## ruff, shellcheck, shfmt
	$(PYTHON) -m ruff check $(PYTHONS)
	$(PYTHON) -m ruff format --check $(PYTHONS)
	.venv/bin/shellcheck $(SCRIPTS)
	.venv/bin/shellcheck -S warning tests/helper.bash tests/cmd/*.bats
	.venv/bin/shfmt -i 2 -ci -d $(SCRIPTS) tests/helper.bash tests/cmd/*.bats

types: dev ## mypy, strict
	$(PYTHON) -m mypy

# Two at a time, a file's tests one after the other: what they share is made once, and races have a core left.
unit: dev
	$(PYTHON) -m pytest -n 2 --dist loadfile tests/unit

commands: dev
	bats tests/cmd

bench: dev ## speed, beside its floors and peers
	$(PYTHON) tests/bench/run.py

bench-peers: ## install what the speed is measured beside (Debian; as root, or with sudo)
	$(SUDO) apt-get install -y --no-install-recommends redis-server runit supervisor
	$(PYTHON) -m pip install --quiet --upgrade --target .tools/peers -r tests/bench/peers.txt

proof: dev ## the promises, with counts
	$(PYTHON) tests/proof/run.py

test-agents: dev ## the ten tests against real agent programs
	$(PYTHON) tests/agents/run.py

demo: setup ## a team in tmux: messages, a flood, a death; leaves nothing
	share/demo/demo.sh

man: setup ## write manual pages and completions from the usage texts
	$(PYTHON) share/manual/make.py

install: ## PREFIX=/usr/local DESTDIR=
	umask 022; mkdir -p "$(CODE)" "$(DESTDIR)$(PREFIX)/bin"
	umask 022; tar -cf - --exclude=__pycache__ lib bin share LICENSE requirements.lock | tar -C "$(CODE)" -xf - --no-same-owner
	install -m 755 orchestrator_manager.sh "$(CODE)/bin/orchestrator_manager.sh"
	umask 022; "$(CODE)/bin/orchestrator_manager.sh" setup
	find "$(CODE)/.venv/bin" -type f -delete
	for file in bin/orc-* bin/tmux-orc bin/team-daemon orchestrator_manager.sh; do \
	  ln -sf "../lib/tmux-orchestrator/bin/$${file##*/}" "$(DESTDIR)$(PREFIX)/bin/$${file##*/}" || exit 1; done
	for page in man/*.[1-9]; do \
	  install -D -m 644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}" || exit 1; done
	install -D -m 644 share/completion/_orc "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_orc"
	for file in bin/orc-* bin/tmux-orc orchestrator_manager.sh; do \
	  install -D -m 644 share/completion/orc.bash "$(COMPLETION_BASH)/$${file##*/}" && \
	  install -D -m 644 share/completion/orc.fish "$(COMPLETION_FISH)/$${file##*/}.fish" || exit 1; done

dist: ## the last commit as an archive
	mkdir -p dist
	git archive --prefix=tmux-orchestrator-$(VERSION)/ -o dist/tmux-orchestrator-$(VERSION).tar.gz HEAD

lock: ## write the lock files anew (needs uv)
	uv pip compile -q --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml -o requirements.lock
	uv pip compile -q --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove what tests and tools leave; .venv stays
	rm -rf dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .tools .venv.new .venv.old
	find lib tests share -name __pycache__ -type d -prune -exec rm -rf {} +
