# shellcheck shell=bash
# What mount/quickstart, tests/run and .ci/run need: system packages, /dev/fuse, a virtual environment.
#
# Sourced.  `lffs_setup [EXTRA...]` sets everything up in the directory above this file, quietly and only where
# something is missing, and leaves the environment's directory in $lffs_venv.  Returns 1, having said what to do,
# when it can't.  PYTHON chooses the interpreter.

lffs_project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
lffs_venv=$lffs_project/.venv

_lffs_packages=(python3-venv python3-dev fuse3 libfuse3-dev pkg-config gcc attr acl ffmpeg)

_lffs_say() { printf 'setup: %s\n' "$*" >&2; }

# Run a command; show what it printed only if it fails.
_lffs_quietly() {
    local log status=0
    log=$(mktemp) || return 1
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        cat "$log" >&2
        _lffs_say "failed with status $status: $*"
    fi
    rm -f "$log"
    return "$status"
}

_lffs_apt() { # ARGUMENT...
    DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 "$@"
}

_lffs_system_packages() {
    local package missing=()
    if ! command -v dpkg-query >/dev/null; then
        _lffs_say "no Debian or Ubuntu, so packages are not checked; needed is what they call: ${_lffs_packages[*]}"
        return 0
    fi
    for package in "${_lffs_packages[@]}"; do
        # Several architectures of one package print their states one after the other.
        case " $(dpkg-query -W -f='${db:Status-Status} ' "$package" 2>/dev/null || true)" in
            *" installed "*) ;;
            *) missing+=("$package") ;;
        esac
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        _lffs_say "system packages are missing; install them, then try again:"
        printf '\n    sudo apt-get update && sudo apt-get install -y --no-install-recommends %s\n\n' "${missing[*]}" >&2
        return 1
    fi
    _lffs_say "installing ${missing[*]}"
    # A fresh container has no package lists, an old machine stale ones: both are seen when installing fails.
    _lffs_apt install --no-install-recommends "${missing[@]}" >/dev/null 2>&1 </dev/null ||
        { _lffs_quietly _lffs_apt update && _lffs_quietly _lffs_apt install --no-install-recommends "${missing[@]}"; }
}

_lffs_fuse_device() {
    if [ ! -e /dev/fuse ] && [ "$(id -u)" -eq 0 ] && command -v modprobe >/dev/null; then
        modprobe fuse 2>/dev/null || true
    fi
    [ -e /dev/fuse ] && return 0
    _lffs_say "/dev/fuse is missing: load the kernel module (modprobe fuse, as root);" \
        "in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN"
    return 1
}

# Print the interpreter to use.  PATH's python3 may be a version manager's, which Debian's python3-venv and
# python3-dev don't serve; take the first that can make an environment and build pyfuse3 in it.
_lffs_interpreter() {
    local candidate candidates=(python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if "$candidate" -I - 2>/dev/null <<'PYTHON_CHECK'
import os, sys, sysconfig
import ensurepip, venv
sys.exit(sys.version_info < (3, 11) or not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PYTHON_CHECK
        then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    _lffs_say "no Python 3.11 or newer with venv and headers among: ${candidates[*]} (set PYTHON to choose one)"
    return 1
}

_lffs_place() { # INTERPRETER: where an environment stands and what it was made with, on one line
    printf '%s with %s\n' "$lffs_project" "$("$1" -I -c 'import sys; print(sys.base_prefix, *sys.version.split())' 2>&1)"
}

_lffs_environment() { # EXTRA...
    local python place extras state stamp=$lffs_venv/.lffs-setup
    # An environment names its interpreter and its own place in many files: moved, or with another Python, it is
    # made anew.  Packages are installed again when pyproject.toml changes or an extra is asked for the first time.
    place=$(_lffs_place "${PYTHON:-$lffs_venv/bin/python}")
    if [ "$(sed -n 1p "$stamp" 2>/dev/null)" != "$place" ]; then
        python=$(_lffs_interpreter) || return 1
        _lffs_say "making a virtual environment in .venv with $python"
        rm -f "$stamp"
        _lffs_quietly "$python" -m venv --clear "$lffs_venv" || return 1
        place=$(_lffs_place "$lffs_venv/bin/python")
    fi
    extras=$({ sed -n 3p "$stamp" 2>/dev/null | tr ',' '\n'; printf '%s\n' "$@"; } | sed '/^$/d' | sort -u | paste -sd ,)
    state=$(printf '%s\n' "$place" "$(sha256sum <"$lffs_project/pyproject.toml")" "$extras")
    [ "$(cat "$stamp" 2>/dev/null)" != "$state" ] || return 0
    _lffs_say "installing lffs${extras:+ with what ${extras//,/ and } needs}"
    _lffs_quietly "$lffs_venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        --editable "$lffs_project${extras:+[$extras]}" || return 1
    printf '%s\n' "$state" >"$stamp"
}

lffs_setup() { # EXTRA...
    _lffs_system_packages && _lffs_fuse_device || return 1
    # One at a time: two commands started together would build one environment between them.
    (
        flock 9
        _lffs_environment "$@" 9<&-
    ) 9<"$lffs_project"
}
