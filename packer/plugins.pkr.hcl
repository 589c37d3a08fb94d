# Read by Packer 1.7 and newer only: older versions have their plugins built in.
packer {
  required_plugins {
    # From 2.2 on it asks for a Standard public IP, the only kind that Azure still makes.
    azure = {
      source  = "github.com/hashicorp/azure"
      version = ">= 2.2.0, < 3.0.0"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = "= 1.1.4"
    }
  }
}
