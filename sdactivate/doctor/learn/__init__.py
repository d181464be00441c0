"""Find out what the sandbox refuses an application while it runs (doctor --learn)."""
