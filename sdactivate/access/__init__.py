"""Who can connect to a socket, and what decides: permissions, accounts, processes."""
