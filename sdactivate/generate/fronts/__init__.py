"""The web servers' part of a site: what a front is asked for, its options, its configuration."""
