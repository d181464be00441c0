"""After: find what is wrong with a deployment, and fix it."""
