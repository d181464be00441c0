"""List a site's releases: the record of each, and whether it is served or still used."""

from contextlib import suppress

from sdactivate.errors import Error
from sdactivate.operate.layout import Layout, in_use
from sdactivate.operate.switch import serving


def listed(name: str) -> list[dict[str, str]]:
    """Return the releases of the site `name`, the newest first, as fields of text.

    The field "state" is "serves" for the release in whose directory the main process runs. It is
    "current" for the release that the link leads to, if that is a different one or nothing runs,
    "in use" for one that another process still uses (root sees all processes), and empty for the
    others. Raises Error if there is no release.
    """
    layout = Layout(name)
    known = layout.all()
    if not known:
        raise Error(
            f"{name} has no releases in {layout.releases}; make one with `sdactivate release`"
        )
    states = dict.fromkeys(
        (one.partition("/")[2] for one in in_use(layout.base) if one.startswith("releases/")),
        "in use",
    )
    states[layout.linked()] = "current"
    with suppress(Error):  # there may be no systemd
        states[serving(layout, f"{name}.service")] = "serves"
    return [{**one._asdict(), "state": states.get(one.id, "")} for one in reversed(known)]
