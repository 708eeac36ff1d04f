#!/usr/bin/env bash
# Install what a target needs: `scripts/setup.sh run` (for make up) or `scripts/setup.sh test` (everything).
# Quick when nothing changed: every step is keyed by the content of what it installs. A failed step says what to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly purpose="${1:-test}"
readonly venv="$PWD/.venv"
readonly stamps="$venv/.stamps"
step="preparing"

say() { if [ -t 2 ]; then printf '\033[1m==>\033[0m %s\n' "$*"; else printf '==> %s\n' "$*"; fi >&2; }
fail() { printf '\nsetup stopped while %s.\n%s\n' "$step" "$1" >&2; exit 1; }
policy=""  # set while package installation must not start services

# Whatever happens: services may start again, and a failure says where it happened.
at_exit() {
    local status=$?
    [ -z "$policy" ] || "${as_root[@]}" rm -f "$policy"
    [ "$status" -eq 0 ] || [ -n "${told:-}" ] \
        || printf '\nsetup stopped while %s (see above); run it again, it goes on where it stopped.\n' "$step" >&2
}
as_root=()
trap at_exit EXIT

# Run a step only when the files it depends on have changed: once NAME "what it does" COMMAND FILES...
once() {
    local name=$1 what=$2 command=$3 key
    shift 3
    key=$(cat "$@" | sha256sum | cut -d' ' -f1)
    [ "$(cat "$stamps/$name" 2>/dev/null)" != "$key" ] || return 0
    step=$what
    say "$what"
    "$command"
    mkdir -p "$stamps"
    printf '%s\n' "$key" > "$stamps/$name"
}

# --- system packages ---------------------------------------------------------------------------------------------

wanted_packages() {
    if [ "$purpose" = run ]; then awk '$1 == "run" { print $2 }' scripts/apt-packages.txt
    else awk '/^(run|test|node) / { print $2 }' scripts/apt-packages.txt; fi
}

missing_packages() {
    comm -23 <(wanted_packages | sort) \
        <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | awk '$1 == "installed" { print $2 }' | sort -u)
}

install_packages() {
    local missing
    command -v apt-get > /dev/null || { say "no apt-get here: expecting the packages of scripts/apt-packages.txt to be there"; return; }
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    step="installing Debian packages"
    say "$step: $(tr '\n' ' ' <<< "$missing")"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo > /dev/null || { told=1; fail "They need root. As root, run: apt-get install $(tr '\n' ' ' <<< "$missing")"; }
        as_root=(sudo)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
    # Services must not start by themselves: tests start their own, on their own ports and folders.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" > /dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    local status=0
    # shellcheck disable=SC2086 # a list of words
    "${apt[@]}" update && "${apt[@]}" install --no-install-recommends $missing > /dev/null || status=$?
    [ -z "$policy" ] || "${as_root[@]}" rm -f "$policy"
    policy=""
    [ "$status" -eq 0 ] || { told=1; fail "apt-get refused (above). Check the network and the package sources, then run this again."; }
}

# --- Python ------------------------------------------------------------------------------------------------------

make_venv() {
    local python
    for python in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        if command -v "$python" > /dev/null \
            && "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            "$python" -m venv "$venv"
            return
        fi
    done
    told=1
    fail "No Python of at least 3.11 with venv was found. On Debian 12: apt-get install python3 python3-venv"
}

install_uv() {
    "$venv/bin/python" -m pip --version > /dev/null 2>&1 || "$venv/bin/python" -m ensurepip --upgrade > /dev/null
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
}

# The system's certificate store, so that a company's own authority is trusted as everywhere else on the machine.
uv_install() { "$venv/bin/uv" pip install --quiet --system-certs --python "$venv/bin/python" "$@"; }
install_runtime() { uv_install --require-hashes -r requirements/runtime.txt; }
install_dev() { uv_install --require-hashes -r requirements/dev.txt; }

install_members() {
    local member arguments=()
    for member in libs/wire libs/common services/brain services/gateway cli; do arguments+=(-e "$member"); done
    # The compiled modules are built by the next step; installing must not build them a second time.
    WHARF_EXTENSION=none uv_install --no-deps --no-build-isolation "${arguments[@]}"
    rm -f "$venv"/lib/python3*/site-packages/wharf-dev.pth
}

# A virtual environment does not survive its interpreter or its folder being moved: make it anew.
check_venv() {
    [ -d "$venv" ] || return 0
    "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { say "the old .venv does not run any more: making it anew"; rm -rf "$venv"; }
}

install_packages
check_venv
if [ ! -x "$venv/bin/python" ]; then
    step="making the virtual environment .venv"
    say "$step"
    make_venv
fi
once uv "installing uv" install_uv requirements/uv.txt
once runtime "installing the pinned runtime packages" install_runtime requirements/runtime.txt
[ "$purpose" = run ] || once dev "installing the pinned tools for tests and checks" install_dev requirements/dev.txt
once members "installing wharf's own packages (editable)" install_members ./*/pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml
step="building the compiled modules"
"$venv/bin/python" scripts/build_extensions.py
if [ "$purpose" != run ]; then
    # Minutes when nothing is cached, and then never again: better here, with progress lines, than inside a test.
    step="building the programs the tests stand on (Kubernetes, etcd, helm, h2spec)"
    "$venv/bin/python" -m wharf.cli.kube.build > /dev/null
fi
