""" "Did you mean": the nearest known word for a misspelt option, kind, setting or key."""

from collections.abc import Iterable


def meant(text: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a message about `text`, which is not one of `known`.

    It suggests the nearest one ("did you mean group?"). If none is near, it is `otherwise`, or else
    a list of them all.
    """
    from difflib import get_close_matches  # imported late: it takes longer than most commands run

    words = list(known)
    near = get_close_matches(text, words, 1)
    if near:
        return f"did you mean {near[0]}?"
    return otherwise or f"choose from {', '.join(words)}"
