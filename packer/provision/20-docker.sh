#!/usr/bin/env bash
# Docker Engine (25 or newer, for quick health checks at the start) and Compose v2.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# The last versions that Docker built for Ubuntu 20.04, and one set for the newer ones.
docker_ubuntu() {
    local codename=$1 engine compose containerd
    case $codename in
    focal) engine=28.1.1 compose=2.35.1 containerd=1.7.27 ;;
    *) engine=28.5.2 compose=2.40.3 containerd=1.7.29 ;;
    esac
    apt-get install -q -y curl
    install -d -m 0755 /etc/apt/keyrings
    curl -fsSL --retry 5 https://download.docker.com/linux/ubuntu/gpg -o /etc/apt/keyrings/docker.asc
    chmod 0644 /etc/apt/keyrings/docker.asc
    echo "deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc]" \
        "https://download.docker.com/linux/ubuntu $codename stable" \
        >/etc/apt/sources.list.d/docker.list
    apt-get update -q
    local suffix="ubuntu.$VERSION_ID~$codename"
    apt-get install -q -y --allow-downgrades \
        "docker-ce=5:$engine-1~$suffix" "docker-ce-cli=5:$engine-1~$suffix" \
        "containerd.io=$containerd-*" "docker-compose-plugin=$compose-*"
}

docker_debian() {
    apt-get install -q -y docker.io docker-cli docker-compose
}

install -d /etc/docker
cat >/etc/docker/daemon.json <<'JSON'
{
  "log-driver": "local",
  "log-opts": {"max-size": "10m", "max-file": "3"},
  "live-restore": false,
  "userland-proxy": false
}
JSON

# shellcheck source=/dev/null
. /etc/os-release
case $ID in
ubuntu) docker_ubuntu "$VERSION_CODENAME" ;;
debian) docker_debian ;;
*) echo "no way to install Docker on $ID" >&2 && exit 1 ;;
esac

systemctl enable --now docker.service
docker version --format 'Docker Engine {{.Server.Version}}'
docker compose version
major=$(docker version --format '{{.Server.Version}}' | cut -d. -f1)
if [ "$major" -lt 25 ]; then
    echo "Docker Engine $major is older than 25" >&2
    exit 1
fi
