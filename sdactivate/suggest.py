"""Did you mean: the nearest known word for a misspelt option, kind, setting or key."""

from collections.abc import Iterable


def meant(text: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a sentence about `text`, which is none of `known`.

    It asks for the nearest of them ("did you mean group?"). Where none is near it says
    `otherwise`, or lists them all.
    """
    from difflib import get_close_matches  # takes longer to import than most commands run

    words = list(known)
    near = get_close_matches(text, words, 1)
    if near:
        return f"did you mean {near[0]}?"
    return otherwise or f"choose from {', '.join(words)}"
