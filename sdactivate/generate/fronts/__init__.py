"""The web servers' configurations that go with a site's socket."""
