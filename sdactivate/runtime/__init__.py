"""During: requests are served. Never imports the generator, the doctor or Jinja2."""
