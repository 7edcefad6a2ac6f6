#!/bin/sh
# Installs Muster's binaries, systemd units and documentation. It starts and restarts nothing, keeps every
# configuration that is there, and may be run again at any time.
#
#   cargo build --release && sudo deploy/install.sh
#
# DESTDIR      a root below which all of it goes (for packages)
# BINARIES     where the built binaries are (default: target/release)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
binaries=${BINARIES:-$root/target/release}
dest=${DESTDIR:-}

for name in muster musterctl; do
    [ -x "$binaries/$name" ] || { echo "$binaries/$name is missing: run 'cargo build --release' first" >&2; exit 1; }
done

# Beside the old file first and then over it: a running binary can't be written, but its name can be taken.
put() {
    mode=$1 from=$2 to=$dest$3
    mkdir -p "$(dirname "$to")"
    cp "$from" "$to.new"
    chmod "$mode" "$to.new"
    mv -f "$to.new" "$to"
}

for name in muster musterctl; do
    put 755 "$binaries/$name" "/usr/bin/$name"
done
put 755 "$here/systemd/handoff" /usr/lib/muster/handoff
for unit in muster-guard.service muster.service muster-handoff.service; do
    put 644 "$here/systemd/$unit" "/usr/lib/systemd/system/$unit"
done
put 644 "$here/agent.toml" /usr/share/doc/muster/agent.toml
put 644 "$here/prometheus/muster.rules.yml" /usr/share/doc/muster/muster.rules.yml
# The pages keep their places to each other, so that their links lead somewhere.
(cd "$root" && ls ./*.md LICENSE && find ./docs -name '*.md') | while read -r page; do
    put 644 "$root/$page" "/usr/share/doc/muster/${page#./}"
done
for example in "$here"/examples/*.toml; do
    put 644 "$example" "/usr/share/doc/muster/examples/$(basename "$example")"
done

config=$dest/etc/muster/agent.toml
if [ -e "$config" ]; then
    echo "kept $config"
else
    put 644 "$here/agent.toml" /etc/muster/agent.toml
    echo "wrote $config: name this host's addresses there"
fi

if [ -z "$dest" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
cat <<'NEXT'
installed. Next:
  a new host:    edit /etc/muster/agent.toml, then 'muster init --now' (first host) or 'muster join --now --token ...'
  an upgrade:    systemctl restart muster          (no service is touched)
                 systemctl reload muster-guard     (no service is touched)
NEXT
