# One recipe, one source for each way to get a machine. Kept within what Packer 1.6.6 reads:
# no `packer {}` block (plugins.pkr.hcl is written for newer versions only), no `env` maps.

# A machine that the nspawn driver booted from a copy of the base.
source "null" "machine" {
  ssh_host               = "192.0.2.2"
  ssh_username           = "bake"
  ssh_private_key_file   = "/nowhere/id_ed25519"
  ssh_timeout            = "60s"
  ssh_handshake_attempts = 20
}

build {
  sources = ["source.null.machine"]

  provisioner "shell" {
    inline = ["sudo install -d -o $(id -u) /var/tmp/bake", "mkdir -p /var/tmp/bake/containers /var/tmp/bake/out"]
  }

  provisioner "file" {
    source      = "RECIPE/files.tar"
    destination = "/var/tmp/bake/files.tar"
  }

  provisioner "file" {
    source      = "RECIPE/images.json"
    destination = "/var/tmp/bake/images.json"
  }

  provisioner "file" {
    source      = "/cache/mysql $${x}.tar"
    destination = "/var/tmp/bake/containers/mysql.tar"
  }

  provisioner "file" {
    source      = "/cache/traefik $${x}.tar"
    destination = "/var/tmp/bake/containers/traefik.tar"
  }

  provisioner "shell" {
    environment_vars = ["BAKE_BASE=debian-13", "BAKE_TARGET=local", "BAKE_DIR=/var/tmp/bake"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
    remote_folder    = "/var/tmp/bake"
    scripts = [
      "PROVISION/10-system.sh",
      "PROVISION/20-docker.sh",
      "PROVISION/25-nvidia.sh",
      "PROVISION/30-files.sh",
      "PROVISION/40-containers.sh",
      "PROVISION/50-schema.sh",
      "PROVISION/80-manifest.sh",
    ]
  }

  provisioner "file" {
    direction   = "download"
    source      = "/var/tmp/bake/out/packages.json"
    destination = "RECIPE/packages.json"
  }

  provisioner "shell" {
    environment_vars = ["BAKE_BASE=debian-13", "BAKE_TARGET=local", "BAKE_DIR=/var/tmp/bake"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
    remote_folder    = "/var/tmp/bake"
    skip_clean       = true
    scripts = [
      "PROVISION/90-hygiene.sh",
    ]
  }
}
