"""Targets: where a deployment runs."""
