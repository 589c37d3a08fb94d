"""A stand-in for Packer and its Azure plugin: what they would read, refuse, make and say."""
