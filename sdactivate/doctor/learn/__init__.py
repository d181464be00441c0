"""Learn what an application needs: what the sandbox refuses it while it runs (doctor --learn)."""
