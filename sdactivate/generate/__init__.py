"""Generate files from a Site, before anything runs. Never imports the runtime or the doctor."""
