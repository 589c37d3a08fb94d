#!/usr/bin/env bash
# The packages of this image with their versions, for its manifest.
set -euo pipefail

bake=${BAKE_DIR:-/var/tmp/bake}
install -d -m 0755 "$bake/out"
cd "$bake/out"

python3 - <<'PYTHON'
import json
import subprocess


def output(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return done.stdout.strip()


lines = output("dpkg-query", "--show", "--showformat=${Package} ${Version}\n").splitlines()
with open("packages.json", "w") as stream:
    json.dump(dict(line.split(" ", 1) for line in lines), stream, indent=1, sort_keys=True)
PYTHON
chmod 0644 packages.json
