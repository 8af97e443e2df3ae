#!/bin/sh
# Installs Forebay from this folder, without a network: sh install.sh [DIR]   (default /opt/forebay)
# Needs Python of the version that the wheels are for, nothing else. As root it also installs the systemd units.
# Run again from a newer bundle it upgrades: configuration, keys and data stay.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-/opt/forebay}
python=${PYTHON:-python3}

fail() {
    echo "install: $*" >&2
    exit 1
}

(cd "$here" && sha256sum --check --quiet SHA256SUMS >&2) || fail "this bundle is damaged; nothing was changed"
wheel=$(cd "$here/wheels" && echo forebay-*.whl)
want=$(echo "$wheel" | sed -n 's/^forebay-[^-]*-cp\([0-9]\)\([0-9]*\)-.*/\1.\2/p')
command -v "$python" >/dev/null || fail "there is no $python; these wheels are for Python $want"
have=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$want" = "$have" ] || fail "these wheels are for Python $want, $python is $have; set PYTHON"
machine=$(uname -m)
case $wheel in *"$machine".whl) ;; *) fail "these wheels are not for $machine" ;; esac

# An older version may not read what a newer one has buffered.
new=$(echo "$wheel" | cut -d- -f2)
old=$("$dir/bin/forebay" --version 2>/dev/null | cut -d' ' -f2 || true)
if [ -n "$old" ] && [ "$old" != "$new" ] && [ -z "${FOREBAY_DOWNGRADE:-}" ]; then
    last=$(printf '%s\n' "$old" "$new" | sort -V | tail -n 1)
    [ "$last" = "$new" ] || fail "downgrade refused: $old is installed, and $new may not be able to read its buffer"
fi

# pip comes along: Debian's python3 has none without its package python3-venv.
"$python" -m venv --without-pip "$dir"
"$dir/bin/python" "$(echo "$here"/wheels/pip-*.whl)/pip" install --quiet --disable-pip-version-check --no-index \
    --no-cache-dir --find-links "$here/wheels" --no-deps --requirement "$here/requirements.txt" "$here/wheels/$wheel"
"$dir/bin/forebay" --version

if [ "$(id -u)" = 0 ] && [ "$dir" = /opt/forebay ]; then
    ln -sf "$dir/bin/forebay" /usr/bin/forebay
    getent passwd forebay >/dev/null || useradd --system --home-dir /var/lib/forebay --shell /usr/sbin/nologin forebay
    install -d -o forebay -g forebay -m 0700 /var/lib/forebay
    # The service reads what is public in here (center.pub, the allow-list); private keys are root's, mode 0600.
    install -d -o root -g forebay -m 0750 /etc/forebay/keys /etc/forebay/keys/allowed
    for name in gateway center; do
        [ -e "/etc/forebay/keys/$name.key" ] || forebay keys new "$name" --dir /etc/forebay/keys >/dev/null
    done
    mkdir -p /etc/systemd/system
    for name in agent receiver; do
        [ -e "/etc/forebay/$name.yaml" ] || cp "$here/$name.yaml" "/etc/forebay/$name.yaml"
        cp "$here/forebay-$name.service" /etc/systemd/system/
    done
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl try-restart forebay-agent forebay-receiver
    fi
    echo "install: edit /etc/forebay/agent.yaml, then: forebay check /etc/forebay/agent.yaml && systemctl enable --now forebay-agent"
fi
