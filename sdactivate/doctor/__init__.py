"""Find what is wrong with a deployment, and fix it."""
