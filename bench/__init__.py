"""The benchmarks: this server and its peers, side by side. See README.md here."""
