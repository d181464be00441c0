"""Warn of a server in the front's own configuration that would answer instead of the site's."""

from collections.abc import Iterator
from pathlib import Path

from sdactivate import fronts
from sdactivate.front_config import Server, in_the_way, names_socket, read
from sdactivate.generate.fronts.request import FrontRequest
from sdactivate.generate.output import Target


def warnings(asked: FrontRequest, text: str, target: Target) -> Iterator[str]:
    """Yield a sentence for each server that answers instead of the one in `text`.

    It examines the system that will read the text. It yields nothing on a host of another
    distribution, or without this front.
    """
    front, packaging = asked.front, asked.packaging
    if packaging is None or (target.at is None and asked.distribution != fronts.distribution()):
        return
    path = (packaging.link or packaging.config).replace("NAME", asked.name)
    servers = read(front, packaging, target.at or Path, {path: text}).servers

    def is_own(server: Server) -> bool:
        # It may also be an earlier file of the site in another place.
        return server.file == path or names_socket(server.text, asked.seen_socket or asked.socket)

    for rival in in_the_way(front, packaging, servers, is_own):
        names = "" if asked.server_name else "give the site's names with --server-name, or "
        yield f"{rival.because}: {names}{rival.fix}"
