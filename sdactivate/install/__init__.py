"""Put a site's units in place and start them; every step can be undone."""
