"""Serve requests. Never imports the generator, the doctor or Jinja2."""
