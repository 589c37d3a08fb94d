#!/usr/bin/env bash
# What containers need for NVIDIA GPUs, in an image for training machines: the driver of Ubuntu's own
# kernel for Azure, and NVIDIA's container toolkit.
set -euo pipefail

[ "${BAKE_GPU:-no}" = yes ] || exit 0
export DEBIAN_FRONTEND=noninteractive

driver=535
toolkit=1.17.8-1
source=https://nvidia.github.io/libnvidia-container

# shellcheck source=/dev/null
. /etc/os-release
if [ "$ID" != ubuntu ]; then
    echo "NVIDIA's driver is installed on Ubuntu only, not on $ID" >&2
    exit 1
fi

# Built and signed by Ubuntu for its kernel: nothing is compiled, and Secure Boot loads it.
apt-get install -q -y "linux-modules-nvidia-$driver-server-azure" \
    "nvidia-headless-no-dkms-$driver-server" "nvidia-utils-$driver-server"

curl -fsSL --retry 5 "$source/gpgkey" -o /etc/apt/keyrings/nvidia-container-toolkit.asc
chmod 0644 /etc/apt/keyrings/nvidia-container-toolkit.asc
echo "deb [arch=amd64 signed-by=/etc/apt/keyrings/nvidia-container-toolkit.asc]" \
    "$source/stable/deb/amd64 /" >/etc/apt/sources.list.d/nvidia-container-toolkit.list
apt-get update -q
apt-get install -q -y "nvidia-container-toolkit=$toolkit" "nvidia-container-toolkit-base=$toolkit" \
    "libnvidia-container-tools=$toolkit" "libnvidia-container1=$toolkit"

nvidia-ctk runtime configure --runtime=docker
systemctl restart docker.service
docker info --format '{{json .Runtimes}}' | grep -q '"nvidia"'
