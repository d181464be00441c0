"""Decide which peers are served (--allow-peer)."""
