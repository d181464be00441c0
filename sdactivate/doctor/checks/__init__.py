"""The checks behind the rules, by what they look at. Each yields a Hit for each place at fault."""
