# Read by Packer 1.7 and newer only: older versions have their plugins built in.
packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = "= 1.1.4"
    }
  }
}
