"""The native server: SCGI, FastCGI, uwsgi and HTTP on one socket, in plain Python."""
