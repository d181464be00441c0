"""Before: a Site becomes text. Never imports the runtime or the doctor."""
