"""Switch a site back to an earlier release, which must answer just like a new one."""

from sdactivate.errors import Error, UsageError
from sdactivate.operate.build import stop_leftovers
from sdactivate.operate.layout import Layout, order
from sdactivate.operate.release import Site
from sdactivate.operate.switch import switch
from sdactivate.suggest import meant


def rollback(name: str, identity: str = "") -> tuple[str, list[str]]:
    """Switch the site `name` to an earlier release.

    Return its ID, and the migrations of later releases, which are not undone.

    `identity`: the release; "": the newest one before the current one. Raises UsageError if there
    is no such release, and Error if there is no earlier one or it can't serve; then nothing has
    changed.
    """
    layout = Layout(name)
    if not layout.all():
        raise Error(
            f"{name} has no releases in {layout.releases}; make one with `sdactivate release`"
        )
    with layout.alone():
        releases = layout.all()  # a concurrent release may have removed some
        known = [release.id for release in releases]
        if identity and identity not in known:
            raise UsageError(f"ID {identity!r}: there is no such release; {meant(identity, known)}")
        stop_leftovers(name)
        now = layout.linked()
        if not identity:
            earlier = [one for one in known if order(one) < order(now)]
            if not earlier:
                raise Error(f"{name} serves {now or 'nothing'}, and there is no release before it")
            identity = earlier[-1]
        switch(layout, identity, Site.find(layout).services())
    later = (one.migrations for one in releases if order(one.id) > order(identity))
    return identity, " ".join(later).split()
