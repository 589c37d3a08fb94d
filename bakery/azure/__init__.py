"""Azure: the clients, the names, and the parts of the Azure target."""
