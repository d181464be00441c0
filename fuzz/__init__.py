"""What the parsers promise for any bytes, and a coverage-guided search for bytes that break it."""
