#!/usr/bin/env bash
# Installs what a build, the demo or the tests need and this machine lacks. Run again, it does nothing.
#
#   scripts/setup.sh demo      compiler tools, libclang, a PostgreSQL server and client, an SSH server
#   scripts/setup.sh test      these, SSH clients, rsync, git, xauth and zsh, Redis (for the example adapter), faketime (for clocks that differ), Chromium (for the console), and Python with the clients
#                              that the tests use, in a virtual environment
#
# Debian's own PostgreSQL cluster is neither used nor touched: everything runs on private clusters in
# temporary directories. GATEWAY_VENV chooses where the virtual environment is.
set -euo pipefail

mode=${1:-}
case $mode in
demo | test) ;;
*)
    echo "usage: scripts/setup.sh demo|test" >&2
    exit 2
    ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

# The first of the paths that exists.
any() {
    local path
    for path in "$@"; do
        [[ -e $path ]] && return 0
    done
    return 1
}

have_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] && return 0
    any /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-*.so* /usr/lib/*/libclang-*.so*
}

# ---- Debian packages, each by what it brings ------------------------------------------------------

missing=()
any /usr/lib/postgresql/*/bin/initdb || missing+=(postgresql)
any /usr/share/postgresql/*/extension/dblink.control || missing+=(postgresql-contrib)
command -v psql >/dev/null || missing+=(postgresql-client)
any /usr/sbin/sshd || missing+=(openssh-server)
have_libclang || missing+=(libclang-dev)
command -v clang >/dev/null || missing+=(clang)
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
if [[ $mode == test ]]; then
    command -v openssl >/dev/null || missing+=(openssl)
    command -v ssh >/dev/null || missing+=(openssh-client)
    command -v rsync >/dev/null || missing+=(rsync)
    command -v git >/dev/null || missing+=(git)
    command -v xauth >/dev/null || missing+=(xauth)
    command -v zsh >/dev/null || missing+=(zsh)
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v valgrind >/dev/null || missing+=(valgrind)
    command -v javac >/dev/null || missing+=(default-jdk-headless)
    any /usr/share/java/postgresql.jar || missing+=(libpostgresql-jdbc-java)
    any /usr/lib/*/faketime/libfaketime.so.1 || missing+=(faketime)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi

if ((${#missing[@]})); then
    command -v apt-get >/dev/null ||
        fail "these Debian packages are missing, and there is no apt-get here: ${missing[*]}"
    as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            fail "run as root, or install sudo, or install these packages yourself: ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing Debian packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# ---- Rust ----------------------------------------------------------------------------------------

# A login shell may not have run since rustup was installed.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
command -v cargo >/dev/null || fail "Rust is missing: install it with rustup, then run this again"

# ---- Python clients, outside the source tree -------------------------------------------------------

if [[ $mode == test ]]; then
    venv=${GATEWAY_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/gateway-venv}
    complete() { "$venv/bin/python" -c 'import ansible, asyncpg, asyncssh, cryptography, django, paramiko, psycopg, schemathesis, sqlalchemy, standardwebhooks, yaml; psycopg.pq.__impl__' >/dev/null 2>&1; }
    if ! complete; then
        say "installing pyyaml, psycopg[binary], asyncpg, sqlalchemy, django, schemathesis, standardwebhooks, paramiko, asyncssh, ansible-core and cryptography into $venv"
        [[ -x $venv/bin/python ]] || python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/tests/cases/requirements.txt"
        complete || fail "the clients in $venv do not work; remove that directory and run this again"
    fi
fi
say "ready for $mode"
