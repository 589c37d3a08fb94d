"""A control plane of Azure on loopback, as strict as the real one, for the real SDKs."""
