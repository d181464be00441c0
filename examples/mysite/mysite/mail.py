"""Mail by a unix socket: a service without a network still reaches this host's mail server."""

import smtplib
import socket

from django.core.mail.backends import smtp


class UnixSMTP(smtplib.SMTP):
    """SMTP on the unix socket whose path is the host."""

    def connect(self, host="localhost", port=0, source_address=None):
        self.sock = socket.socket(socket.AF_UNIX)
        if isinstance(self.timeout, int | float):  # EMAIL_TIMEOUT
            self.sock.settimeout(self.timeout)
        self.sock.connect(host)
        return self.getreply()


class EmailBackend(smtp.EmailBackend):
    """Django's own, by such a socket: EMAIL_HOST is its path."""

    connection_class = UnixSMTP
