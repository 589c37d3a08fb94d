#!/usr/bin/env bash
# Nothing of the build stays: no identity, no key, no user, no cache, no address of its network.
set -euo pipefail

bake=${BAKE_DIR:-/var/tmp/bake}

# Stopped cleanly, or layers that lie in the page cache only are lost.
systemctl stop docker.socket docker.service containerd.service 2>/dev/null || true
rm -rf /var/lib/docker/engine-id /etc/docker/key.json /var/lib/docker/containers/*

apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old
# The mirrors of the network that this was baked in are nobody else's business.
rm -f /etc/apt/sources.list.d/* /etc/apt/auth.conf /etc/apt/auth.conf.d/* \
    /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/99mmdebstrap
: >/etc/apt/sources.list

rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
if [ -d /var/lib/dbus ]; then
    ln -sf /etc/machine-id /var/lib/dbus/machine-id
fi
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret

cloud-init clean --logs --seed || cloud-init clean --logs
rm -rf /var/lib/cloud /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init \
    /etc/systemd/network/*cloud-init* /run/cloud-init/instance-data*
rm -f /etc/sudoers.d/90-cloud-init-users /etc/mlflow-bakery/environment.json

# Its session is the one that runs this: it ends with the machine, its home goes now.
if id bake >/dev/null 2>&1; then
    userdel -f bake 2>/dev/null || true
    rm -rf /home/bake /var/mail/bake /var/spool/mail/bake
fi
rm -rf /root/.ssh /root/.cache /root/.bash_history /root/.local

echo localhost >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts

journalctl --rotate >/dev/null 2>&1 || true
journalctl --vacuum-time=1s >/dev/null 2>&1 || true
# Or the shutdown is still logged, in a folder that bears this machine's id.
journalctl --relinquish-var
rm -rf /var/log/journal/*
find /var/log -type f \( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' \) -delete
find /var/log -type f -exec truncate --size=0 {} +
rm -f /var/lib/systemd/coredump/* /etc/udev/rules.d/70-persistent-net.rules

# The results have been fetched from here. What Packer put into /tmp to run this, it removes.
find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name 'script_*' \
    -exec rm -rf {} +
rm -rf "$bake"
fstrim / 2>/dev/null || true

# Azure's agent forgets this machine and takes the build's user away: nothing may come after it.
if [ "${BAKE_TARGET:-local}" = azure ]; then
    waagent -force -deprovision+user
fi
sync
