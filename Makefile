# Portico: everything a person types more than once. `make` alone prints the list.
# Every target may be run again at any time: what is already there is left alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help venv setup setup-test demo test lint torture fuzz mutants bench powercut lock clean
MAKEFLAGS += --no-print-directory

# Debian keeps mosquitto and mkfs.ext4 in sbin, which is not on everybody's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
PYTHON ?= python3
VENV := .venv
ARGS ?=
# So many field tests run side by side in `make test`.
JOBS ?= 3

# Shell functions shared by the targets that need packages of the operating system.
define FUNCTIONS
say() { printf '%s\n' "$$*"; }
fail() { printf 'error: %s\n' "$$*" >&2; exit 2; }
as_root() { if [ "$$(id -u)" -eq 0 ]; then "$$@"; else sudo -n "$$@"; fi; }
may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null
}
apt_try() { as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq -y -o=Dpkg::Use-Pty=0 "$$@" >/dev/null; }
# apt_install PACKAGE...: refreshes the package lists only where they are missing or too old to serve.
apt_install() {
    if ! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
        say "setup: apt-get update (no package lists yet)"
        apt_try update || return 1
    fi
    say "setup: apt-get install $$*"
    apt_try install --no-install-recommends "$$@" && return 0
    say "setup: apt-get update (the install failed, the package lists may be old)"
    apt_try update && apt_try install --no-install-recommends "$$@"
}
# what_to_run PACKAGE...: the sentence for somebody who has to do it by hand.
what_to_run() {
    if command -v apt-get >/dev/null; then
        printf 'run "sudo apt-get install %s" and then try again' "$$*"
    else
        printf 'install what Debian calls "%s" with the package tool of this system and then try again' "$$*"
    fi
}
endef

help:  ## print this list
	@echo "Portico. Targets (give options as ARGS=\"...\"):"
	sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
	    || sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile

venv:  ## create .venv with the locked packages and this project
	@$(FUNCTIONS)
	# The path belongs to the key: a virtual environment that was moved or copied does not work.
	wanted=$$({ pwd; cat requirements-dev.lock pyproject.toml; } | sha256sum | cut -d ' ' -f 1)
	stamp=$(VENV)/.installed
	exec 9<.
	if command -v flock >/dev/null; then flock 9; fi
	if [ -x $(VENV)/bin/portico ] && [ "$$(cat $$stamp 2>/dev/null)" = "$$wanted" ]; then exit 0; fi
	if ! $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then
	    python=
	    for candidate in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do
	        if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	            python=$$candidate
	            break
	        fi
	    done
	    [ -n "$$python" ] || fail "Portico needs Python 3.11 or newer: $$(what_to_run python3 python3-venv)."
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then
	        package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
	        may_install || fail "$$python cannot create virtual environments: $$(what_to_run $$package)."
	        apt_install "$$package" || fail "$$package could not be installed: $$(what_to_run $$package)."
	    fi
	    say "venv: creating $(VENV) with $$("$$python" --version)"
	    "$$python" -m venv --clear $(VENV)
	fi
	say "venv: installing $$(grep -c '^[a-z0-9-]*==' requirements-dev.lock) locked packages from requirements-dev.lock"
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-input \
	    --require-hashes -r requirements-dev.lock \
	    || fail "the locked packages could not be installed: check the network and run make venv again."
	say "venv: installing this project, editable, as $(VENV)/bin/portico"
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-input \
	    --no-build-isolation --no-deps -e .
	printf '%s\n' "$$wanted" > $$stamp

setup: venv  ## venv, and mosquitto from the system's packages where it is missing
	@$(FUNCTIONS)
	missing=()
	command -v mosquitto >/dev/null || missing+=(mosquitto)
	command -v mosquitto_sub >/dev/null || missing+=(mosquitto-clients)
	[ "$${#missing[@]}" -gt 0 ] || exit 0
	sentence="$${missing[*]} missing: $$(what_to_run "$${missing[@]}")."
	may_install || fail "$$sentence"
	# The package would start a broker on port 1883 that nobody here asked for: a policy file forbids it.
	guard=/usr/sbin/policy-rc.d
	if [ ! -e $$guard ]; then
	    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
	    printf '#!/bin/sh\nexit 101\n' | as_root tee $$guard >/dev/null
	    as_root chmod 755 $$guard
	fi
	apt_install "$${missing[@]}" || fail "$$sentence"
	if [[ " $${missing[*]} " == *" mosquitto "* ]]; then
	    if command -v systemctl >/dev/null; then
	        if [ -d /run/systemd/system ]; then now=--now; else now=; fi
	        as_root systemctl disable $$now mosquitto >/dev/null 2>&1 || true
	    fi
	    say "setup: mosquitto installed; its system service is neither started nor enabled"
	fi

setup-test: setup  ## setup, and what only the tests need (C compiler, libmodbus, mbpoll, socat, faketime, e2fsprogs)
	@$(FUNCTIONS)
	missing=()
	command -v gcc >/dev/null || missing+=(gcc)
	[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
	[ -e /usr/include/modbus/modbus.h ] || missing+=(libmodbus-dev)
	command -v mbpoll >/dev/null || missing+=(mbpoll)
	command -v socat >/dev/null || missing+=(socat)
	command -v faketime >/dev/null || missing+=(faketime)
	compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || missing+=(libfaketime)
	command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
	[ "$${#missing[@]}" -gt 0 ] || exit 0
	by_hand="$$(what_to_run "$${missing[@]}")"
	if may_install; then
	    # Where it may be installed nothing is skipped quietly: a proof by a foreign program that did not run is none.
	    apt_install "$${missing[@]}" || fail "setup-test: $${missing[*]} could not be installed: $$by_hand."
	    say "setup-test: installed $${missing[*]}"
	else
	    say "setup-test: MISSING, and not to be installed from here: $${missing[*]}" >&2
	    say "setup-test: what needs it does not run and is named in the summary; for it $$by_hand." >&2
	fi

demo: setup  ## the main job end to end in this terminal, e.g. ARGS="--seconds 30 --json"
	@$(VENV)/bin/portico demo $(ARGS)

test: setup-test  ## all tests, e.g. ARGS="-m 'not field'" or ARGS="tests/unit/core"
	@if [ -n "$$(printf '%s' "$(ARGS)")" ]; then exec $(VENV)/bin/python -m pytest -ra $(ARGS); fi
	# The field tests wait for processes most of the time: some run side by side, the others beside them, and give way.
	mkdir -p var
	echo "test: all tests, in three runs: of the field $(JOBS) side by side (JOBS=n for another number); then those"
	echo "test: that need it one after the other; beside both those without processes, which are shown at the end"
	set -m  # a job of its own: else it would ignore SIGINT, which some tests send
	nice -n 10 $(VENV)/bin/python -m pytest -ra -m 'not field' >var/test-unit.log 2>&1 </dev/null &
	beside=$$!
	set +m
	trap 'kill "$$beside" 2>/dev/null || true' EXIT
	status=0
	# 2: Ctrl-C, or tests that cannot be read. Nothing more is started then, and what runs beside is ended.
	failed() { if [ "$$?" -eq 2 ]; then exit 2; fi; status=1; }
	$(VENV)/bin/python -m pytest -ra -m 'field and not alone' -n $(JOBS) || failed
	$(VENV)/bin/python -m pytest -ra -m 'field and alone' || failed
	while kill -0 "$$beside" 2>/dev/null; do
	    echo "test: the other tests go on: $$(grep -o '\[ *[0-9]*%\]' var/test-unit.log | tail -n 1)"
	    sleep 10
	done
	wait "$$beside" || status=1
	cat var/test-unit.log
	exit "$$status"

lint: venv  ## ruff, mypy strict and the house test
	@status=0
	echo "lint: ruff check"; $(VENV)/bin/ruff check . || status=1
	echo "lint: ruff format --check"; $(VENV)/bin/ruff format --check . || status=1
	echo "lint: mypy --strict"; $(VENV)/bin/mypy || status=1
	echo "lint: the house test"; $(VENV)/bin/python -m pytest -q tests/test_house.py || status=1
	exit $$status

torture: setup-test  ## random kills, outages and full disks, e.g. ARGS="--rounds 10 --json"
	@$(VENV)/bin/python -m tests.torture $(ARGS)

fuzz: venv  ## mutated answers on every kind of line, e.g. ARGS="--seconds 60 --seed 7 --json"
	@$(VENV)/bin/python -m tests.fuzz $(ARGS)

mutants: venv  ## change the rules one thing at a time, tell what no test sees, e.g. ARGS="--sample 100 --seed 7"
	@nice -n 15 $(VENV)/bin/python -m tests.mutants $(ARGS)

bench: setup-test  ## measure speed and size, e.g. ARGS="--json"
	@$(VENV)/bin/python -m bench $(ARGS)

powercut: setup-test  ## what a power cut takes, on an ext4 image (root only)
	@$(VENV)/bin/python -m tests.powercut $(ARGS)

lock:  ## write both lock files again after pyproject.toml changed, newer versions with ARGS="--upgrade"
	@tool=$$(mktemp -d)
	trap 'rm -rf "$$tool"' EXIT
	echo "lock: installing uv in a throw-away environment"
	$(PYTHON) -m venv "$$tool"
	"$$tool/bin/python" -m pip install -q --disable-pip-version-check uv
	compile() {
	    echo "lock: writing $$1"
	    "$$tool/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	        --no-emit-index-url --no-emit-find-links $(ARGS) pyproject.toml -o "$$@" >/dev/null
	}
	compile requirements.lock
	compile requirements-dev.lock --extra dev

clean:  ## remove .venv, caches and what runs left behind in var/
	@echo "clean: removing $(VENV), var, build, dist and caches"
	rm -rf $(VENV) var build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
