"""Drivers: how the local target runs a machine."""
