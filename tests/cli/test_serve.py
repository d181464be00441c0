"""sdactivate serve: its options."""

from sdactivate.cli import parser
from sdactivate.settings import resolve


def test_a_setting_that_is_a_list_adds_up() -> None:
    argv = ["serve", "a:b", "--stream", "/a", "--stream", "/b,/c", "--threads", "2"]
    args = parser(["serve"]).parse_args(argv)
    settings = resolve({}, {"stream": args.stream, "threads": args.threads}, {})
    assert settings.stream == ("/a", "/b", "/c")
    assert settings.threads == 2
