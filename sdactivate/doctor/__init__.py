"""After: why the socket can't be reached, and who can reach it that shouldn't. Only reads."""
