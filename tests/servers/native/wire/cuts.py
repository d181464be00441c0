"""Where the bytes of a connection are cut into what read(2) returns."""

from hypothesis import strategies as st


def cuts() -> st.SearchStrategy[list[int]]:
    """Numbers that `pieces` makes into places to cut."""
    return st.lists(st.integers(0, 1 << 20), max_size=4)


def pieces(data: bytes, cut: list[int]) -> list[bytes]:
    """Cut `data` there; the pieces together are all of it."""
    ends = sorted({end % (len(data) + 1) for end in cut} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
