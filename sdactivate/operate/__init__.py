"""Day-to-day work on a running site: releases, commands in its sandbox, status."""
