#!/usr/bin/env bash
# A quiet system: first boot over, nothing else using apt, logs bounded.
set -euo pipefail

# It can hang for ever when a boot command fails, and 2 means "recoverable errors" from 23.4 on.
code=0
timeout 300 cloud-init status --wait >/dev/null || code=$?
if [ "$code" -ne 0 ] && [ "$code" -ne 2 ]; then
    cloud-init status --long || true
    echo "cloud-init ended with $code" >&2
    exit 1
fi

for unit in apt-daily.timer apt-daily-upgrade.timer apt-daily.service \
    apt-daily-upgrade.service unattended-upgrades.service; do
    systemctl stop "$unit" 2>/dev/null || true
done

cat >/etc/apt/apt.conf.d/90mlflow-bakery <<'CONF'
// Packages are changed by the next image, never on a running machine.
APT::Periodic::Update-Package-Lists "0";
APT::Periodic::Unattended-Upgrade "0";
APT::Install-Recommends "false";
DPkg::Lock::Timeout "600";
CONF

install -d /etc/systemd/journald.conf.d
cat >/etc/systemd/journald.conf.d/90-mlflow-bakery.conf <<'CONF'
[Journal]
Storage=persistent
SystemMaxUse=200M
CONF

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# What the machine's own scripts call.
apt-get install -q -y --no-install-recommends e2fsprogs util-linux python3 ca-certificates
