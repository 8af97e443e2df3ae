#!/bin/sh
# Installs Forebay from this folder, without a network: ./install.sh [DIR]   (default /opt/forebay)
# Needs Python of the version that the wheels are for, with venv. As root it also installs the systemd units.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-/opt/forebay}
python=${PYTHON:-python3}

want=$(ls "$here/wheels" | sed -n 's/^forebay-[^-]*-cp\([0-9]\)\([0-9]*\)-.*/\1.\2/p')
have=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$want" = "$have" ] || { echo "install: these wheels are for Python $want, $python is $have; set PYTHON" >&2; exit 1; }
machine=$(uname -m)
ls "$here/wheels" | grep -q "^forebay-.*$machine" || { echo "install: these wheels are not for $machine" >&2; exit 1; }

"$python" -m venv "$dir"
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" --no-deps \
    -r "$here/requirements.txt" "$here"/wheels/forebay-*.whl
"$dir/bin/forebay" --version

if [ "$(id -u)" = 0 ] && [ "$dir" = /opt/forebay ]; then
    ln -sf "$dir/bin/forebay" /usr/bin/forebay
    getent passwd forebay >/dev/null || useradd --system --home-dir /var/lib/forebay --shell /usr/sbin/nologin forebay
    mkdir -p /etc/forebay/keys /etc/systemd/system
    chmod 700 /etc/forebay/keys
    for name in gateway center; do
        [ -e "/etc/forebay/keys/$name.key" ] || forebay keys new "$name" --dir /etc/forebay/keys >/dev/null
    done
    for name in agent receiver; do
        [ -e "/etc/forebay/$name.yaml" ] || cp "$here/$name.yaml" "/etc/forebay/$name.yaml"
        cp "$here/forebay-$name.service" /etc/systemd/system/
    done
    echo "install: edit /etc/forebay/agent.yaml (keys: {own: \"credential:gateway.key\"}), then: systemctl enable --now forebay-agent"
fi
