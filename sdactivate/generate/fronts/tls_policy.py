"""TLS settings for each front besides certificate and key: Mozilla's intermediate configuration.

TLS 1.2 and 1.3, forward secrecy, ciphers in the client's order, no session tickets (their key would
be kept longer than any connection): wiki.mozilla.org/Security/Server_Side_TLS, version 5.7. Only
settings that differ from the front's defaults in Debian 12 are listed.
"""

from collections.abc import Mapping

CIPHERS = ":".join(
    (
        *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
        *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        *("DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-CHACHA20-POLY1305"),
    )
)
"""OpenSSL's names of the TLS 1.2 cipher suites; all suites of TLS 1.3 are acceptable."""

POLICY: Mapping[str, tuple[str, ...]] = {
    "nginx": (
        "ssl_protocols TLSv1.2 TLSv1.3;",
        f"ssl_ciphers {CIPHERS};",
        "ssl_prefer_server_ciphers off;",
        "ssl_session_tickets off;",
        "ssl_session_cache shared:sdactivate:10m;",
        "ssl_session_timeout 1d;",
    ),
    "apache": (
        "SSLProtocol -all +TLSv1.2 +TLSv1.3",
        f"SSLCipherSuite {CIPHERS}",
        "SSLHonorCipherOrder off",
        "SSLSessionTickets off",
    ),
    # The default from 1.4.68 on; the key of its tickets changes every eight hours.
    "lighttpd": (),
    "caddy": (),
    # Debian's haproxy.cfg has these, in `ssl-default-bind-…`.
    "haproxy": (),
    "cherokee": (),
}
"""The lines for each front."""
