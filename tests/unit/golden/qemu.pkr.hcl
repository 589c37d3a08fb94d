# One recipe, one source for each way to get a machine. Kept within what Packer 1.6.6 reads:
# no `packer {}` block (plugins.pkr.hcl is written for newer versions only), no `env` maps.

# The same under QEMU, where a hypervisor runs a kernel.
source "qemu" "machine" {
  accelerator          = "tcg"
  cd_files             = ["/bake/seed/*"]
  cd_label             = "cidata"
  disk_image           = true
  disk_size            = "16G"
  format               = "raw"
  headless             = true
  iso_checksum         = "sha256:00"
  iso_url              = "/pool/base.raw"
  memory               = 4096
  output_directory     = "/bake/output"
  qemuargs             = [["-cpu", "max"], ["-serial", "file:/bake/console.log"]]
  shutdown_command     = "sudo systemctl poweroff"
  ssh_private_key_file = "/nowhere/id_ed25519"
  ssh_timeout          = "20m"
  ssh_username         = "bake"
}

build {
  sources = ["source.qemu.machine"]

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
