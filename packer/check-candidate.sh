#!/usr/bin/env bash
# Run as root in a machine booted from a new image, before anybody else gets that image. It has no
# environment, so it serves nothing; its last line is "candidate ok", or what is wrong.
set -euo pipefail

fail() {
    echo "candidate failed: $*"
    exit 1
}

code=0
timeout 300 cloud-init status --wait >/dev/null || code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 2 ] || fail "cloud-init ended with $code"

failed=$(systemctl list-units --failed --plain --no-legend | cut -d' ' -f1 | tr '\n' ' ')
[ -z "$failed" ] || fail "units have failed: $failed"
for unit in docker.service mlflow-data-disk.service mlflow.service mlflow-backup.timer; do
    systemctl is-enabled --quiet "$unit" || fail "$unit is not enabled"
done

# Of this machine alone, made at this boot.
[ -s /etc/machine-id ] || fail "there is no machine-id"
ls /etc/ssh/ssh_host_ed25519_key >/dev/null || fail "there is no host key"
for user in bake packer; do
    ! id "$user" >/dev/null 2>&1 || fail "the build's user $user is still there"
done
[ ! -e /var/tmp/bake ] || fail "the build's files are still there"

python3 - <<'PYTHON' || fail "the container images are not those that were baked"
import json
import subprocess
import sys

for name, image in json.load(open("/usr/share/mlflow-bakery/images.json")).items():
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", image["reference"]]
    found = subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    if found != image["image_id"]:
        sys.exit("{}: {} is {!r}".format(name, image["reference"], found))
PYTHON

for file in schema.sql schema.json compose/compose.yaml; do
    [ -s "/usr/share/mlflow-bakery/$file" ] || fail "$file is missing"
done
docker compose version >/dev/null || fail "Compose does not run"
echo "candidate ok"
