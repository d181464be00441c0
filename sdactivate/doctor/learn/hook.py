"""Report to strace the line of Python behind a refusal: a watched command's sitecustomize.py.

It runs in the command's own process, as the site's user, and imports no module of sdactivate. It
reports an exception that a refused call may have raised by asking for a path that does not exist:
strace shows this call among the others of the same thread. It also reports that an exception has
reached the site's own code: if a library handles it, the site works without what was refused.
"""

import os
import sys
import threading
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

_MARK = "/sdactivate-learn/"
_LONGEST = 3900  # bytes of a path
_DEEPEST = 40
_BUILT_IN = (OSError, MemoryError, ImportError, RuntimeError)


def _say(text: str) -> None:
    raw = (_MARK + text).encode("utf-8", "surrogateescape")[:_LONGEST]
    os.access(raw.replace(b"\0", b"?"), os.F_OK)


def _is_telling(error: object) -> bool:
    """Return whether a refused call may cause an exception: some of Python's, all others."""
    if isinstance(error, _BUILT_IN):
        return not isinstance(error, RecursionError)
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, Exception) and module not in sys.stdlib_module_names


@lru_cache(4096)
def _is_site(file: str) -> bool:
    """Return whether a file of code is the site's own, not a library's."""
    parts = ("/site-packages/", "/dist-packages/", "/lib/python", "/lib64/python")
    return not file.startswith("<") and not any(part in file for part in parts)


def _tell(error: BaseException, frame: "FrameType | None") -> None:
    """Report which exception was raised, and where."""
    number = error.errno if isinstance(error, OSError) else None
    lines = [f"{type(error).__name__}:{number or 0}:{id(error)}"]
    while frame is not None and len(lines) < _DEEPEST:
        code = frame.f_code
        if not code.co_filename.startswith("<frozen"):
            lines.append(f"{code.co_filename}:{frame.f_lineno}:{code.co_name}")
        frame = frame.f_back
    _say("\n".join(lines))


def _reached(error: BaseException) -> None:
    """Report that an exception, and those that caused it, have reached the site's own code."""
    ids: list[str] = []
    one: BaseException | None = error
    while one is not None and len(ids) < _DEEPEST:
        ids.append(str(id(one)))
        one = one.__cause__ or one.__context__
    _say("\n".join(["reached", *ids]))


def _raised(code: CodeType, offset: int, error: BaseException) -> None:
    if _is_telling(error):
        _tell(error, sys._getframe(1))
        if _is_site(code.co_filename):
            _reached(error)


def _unwound(code: CodeType, offset: int, error: BaseException) -> None:
    if not _is_telling(error) or _is_site(code.co_filename):
        return
    caller = sys._getframe(1).f_back
    while caller is not None and caller.f_code.co_filename.startswith("<frozen"):
        caller = caller.f_back
    if caller is not None and _is_site(caller.f_code.co_filename):
        _reached(error)


def _traced(frame: FrameType, event: str, arg: Any) -> Any:
    frame.f_trace_lines = False
    if event == "exception":
        _, error, traceback = arg
        if traceback is not None and isinstance(error, BaseException) and _is_telling(error):
            # Only where it was raised, not in every frame that it passes through
            if traceback.tb_next is None:
                _tell(error, frame)
            if _is_site(frame.f_code.co_filename):
                _reached(error)
    return _traced


def _asked(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo" and arguments[:1] != (None,):
        _say(f"lookup\n{arguments[0]}\n{arguments[1]}")


def _begin() -> None:
    sys.addaudithook(_asked)
    if monitoring := getattr(sys, "monitoring", None):  # Python 3.12: takes time only at a raise
        for tool in (4, 3, 5):
            if monitoring.get_tool(tool) is None:
                monitoring.use_tool_id(tool, "sdactivate-learn")
                events = monitoring.events
                monitoring.register_callback(tool, events.RAISE, _raised)
                monitoring.register_callback(tool, events.PY_UNWIND, _unwound)
                monitoring.set_events(tool, events.RAISE | events.PY_UNWIND)
                return
    else:
        threading.settrace(_traced)
        sys.settrace(_traced)


def _next() -> None:
    """Run the sitecustomize that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        pass


if __name__ == "sitecustomize":
    _next()
    _begin()
