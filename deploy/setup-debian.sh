#!/usr/bin/env bash
# Installs what Tidegate's tests, demonstration and benchmarks need and this machine lacks. Running it again does nothing,
# and where nothing is missing it needs neither root nor a network.
set -euo pipefail

server_user=tidegate

has_server() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || [ -n "${TIDEGATE_PG_BIN:-}" ] ||
        { command -v pg_config >/dev/null && [ -x "$(pg_config --bindir)/postgres" ]; }
}

missing_packages() {
    has_server || echo postgresql
    command -v psql >/dev/null || echo postgresql-client
    command -v openssl >/dev/null || echo openssl
    command -v cc >/dev/null || echo gcc libc6-dev
    command -v c++ >/dev/null || echo g++
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: this needs root, and there is no sudo: $*" >&2
        exit 1
    fi
}

# Installing Debian's server would also make and start a cluster on port 5432, which nobody asked us for.
no_cluster=/etc/postgresql-common/createcluster.d/tidegate-setup.conf

install_packages() {
    if ! command -v apt-get >/dev/null; then
        echo "setup: install these by hand, this machine has no apt-get: $*" >&2
        exit 1
    fi
    echo "setup: installing $*"
    as_root mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    log=$(mktemp)
    trap 'as_root rm -f "$no_cluster"; rm -f "$log"' EXIT
    {
        as_root apt-get update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}

if ! command -v cargo >/dev/null; then
    echo "setup: Rust is missing: install it with rustup or as your system does, then run this again" >&2
    exit 1
fi

mapfile -t packages < <(missing_packages | tr ' ' '\n')
if [ "${#packages[@]}" -gt 0 ]; then
    install_packages "${packages[@]}"
fi

# PostgreSQL refuses to run as root, so root's tests start their servers as this user.
if [ "$(id -u)" = 0 ] && ! id "$server_user" >/dev/null 2>&1; then
    echo "setup: making the user $server_user, as which throw-away servers run"
    useradd --system --no-create-home --shell /usr/sbin/nologin "$server_user"
fi
