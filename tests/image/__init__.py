"""Run over SSH inside a deployed machine; see bakery/checks/machine.py."""
