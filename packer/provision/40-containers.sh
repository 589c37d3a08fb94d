#!/usr/bin/env bash
# The container images, each proven to be the one that was locked.
set -euo pipefail

bake=${BAKE_DIR:-/var/tmp/bake}

for archive in "$bake"/containers/*.tar; do
    docker load --quiet --input "$archive"
    rm "$archive"
done

python3 - <<'PYTHON'
import json
import subprocess
import sys

images = json.load(open("/usr/share/mlflow-bakery/images.json"))
for name, image in images.items():
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", image["reference"]]
    found = subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    if found != image["image_id"]:
        sys.exit("{}: {} is {}, not {}".format(name, image["reference"], found, image["image_id"]))
PYTHON
