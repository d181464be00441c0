"""The functions behind the rules. Each yields a Hit for each place at fault."""
