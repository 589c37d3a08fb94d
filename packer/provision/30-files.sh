#!/usr/bin/env bash
# The machine's own files, the default user, the logins, the sources of cloud-init.
set -euo pipefail

bake=${BAKE_DIR:-/var/tmp/bake}

tar -C / --extract --no-same-owner --file="$bake/files.tar"
chown -R root:root /usr/lib/mlflow-bakery /usr/share/mlflow-bakery
chmod 0755 /usr/lib/mlflow-bakery /usr/lib/mlflow-bakery/mlflow_bakery_machine
install -m 0644 "$bake/images.json" /usr/share/mlflow-bakery/images.json
install -d -m 0700 /etc/mlflow-bakery /var/lib/mlflow-data
python3 -m compileall -q /usr/lib/mlflow-bakery

install -d /etc/cloud/cloud.cfg.d
cat >/etc/cloud/cloud.cfg.d/90-mlflow-bakery.cfg <<'CFG'
datasource_list: [Azure, NoCloud, None]
disable_root: true
ssh_pwauth: false
# The machine knows its own name without asking anybody.
manage_etc_hosts: true
system_info:
  default_user:
    name: bakery
    gecos: MLflow bakery
    lock_passwd: true
    groups: [adm, systemd-journal]
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
CFG

install -d /etc/ssh/sshd_config.d
cat >/etc/ssh/sshd_config.d/10-mlflow-bakery.conf <<'CONF'
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
X11Forwarding no
CONF
# Ubuntu 20.04's sshd knows the option by its older name only.
if ! sshd -t 2>/dev/null; then
    sed -i 's/^KbdInteractiveAuthentication/ChallengeResponseAuthentication/' \
        /etc/ssh/sshd_config.d/10-mlflow-bakery.conf
fi
sshd -t

systemctl daemon-reload
# A login needs no service manager of its own; one that is slow to end delays each shutdown.
systemctl mask user@.service
systemctl enable mlflow-data-disk.service mlflow-metadata.service mlflow-standby.service \
    mlflow.service mlflow-backup.timer
