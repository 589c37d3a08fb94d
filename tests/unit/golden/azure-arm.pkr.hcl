# One recipe, one source for each way to get a machine. Kept within what Packer 1.6.6 reads:
# no `packer {}` block (plugins.pkr.hcl is written for newer versions only), no `env` maps.

# A machine that Packer makes on Azure, in a resource group of its own, which it deletes whole.
source "azure-arm" "machine" {
  use_azure_cli_auth     = true
  cloud_environment_name = "Public"
  subscription_id        = "00000000-0000-0000-0000-000000000001"

  location                 = "westeurope"
  temp_resource_group_name = "mlflow-bakery-bake-1"
  azure_tags = {
    "managed-by"          = "mlflow-bakery"
    "mlflow-bakery-image" = "one"
  }
  allowed_inbound_ip_addresses = ["203.0.113.7/32"]
  public_ip_sku                = "Standard"
  vm_size                      = "Standard_B2s"

  os_type         = "Linux"
  os_disk_size_gb = 30
  image_publisher = "Canonical"
  image_offer     = "offer"
  image_sku       = "sku"
  image_version   = "20.04.202505200"

  communicator = "ssh"
  ssh_username = "packer"
  ssh_timeout  = "20m"

  # A candidate: what asks for the newest image does not get it before it has been tested.
  shared_gallery_image_version_exclude_from_latest = true
  shared_image_gallery_timeout                     = "120m"
  shared_image_gallery_destination {
    subscription   = "00000000-0000-0000-0000-000000000001"
    resource_group = "mlflow-bakery"
    gallery_name   = "mlflow_bakery"
    image_name     = "mlflow-ubuntu-20.04"
    image_version  = "20260101.101010.0"
  }
}

build {
  sources = ["source.azure-arm.machine"]

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
    source      = "/cache/mysql.tar"
    destination = "/var/tmp/bake/containers/mysql.tar"
  }

  provisioner "shell" {
    environment_vars = ["BAKE_BASE=ubuntu-20.04", "BAKE_TARGET=azure", "BAKE_DIR=/var/tmp/bake"]
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

  provisioner "file" {
    direction   = "download"
    source      = "/usr/share/mlflow-bakery/schema.json"
    destination = "RECIPE/schema.json"
  }

  provisioner "shell" {
    environment_vars = ["BAKE_BASE=ubuntu-20.04", "BAKE_TARGET=azure", "BAKE_DIR=/var/tmp/bake"]
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
    remote_folder    = "/var/tmp/bake"
    skip_clean       = true
    scripts = [
      "PROVISION/90-hygiene.sh",
    ]
  }

  post-processor "manifest" {
    output = "RECIPE/packer-manifest.json"
  }
}
