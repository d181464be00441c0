"""Sphinx's settings for the site of the documentation: script/build-site."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from sdactivate import __version__  # noqa: E402

project = "sdactivate"
version = release = __version__
project_copyright = "The sdactivate maintainers"
language = "en"
extensions = ["myst_parser", "repository", "accessible"]

# The Markdown is GitHub's: what MyST adds to it would turn words of a page into something else.
# Fences are left, for the navigation.
myst_disable_syntax = [
    *("myst_line_comment", "myst_block_break", "myst_target", "myst_role"),
    *("footnote_ref", "footnote_def", "footnote_inline", "front_matter"),
]
myst_heading_anchors = 6
myst_heading_anchors_html_ids = True
highlight_language = "none"  # a block that names no language
smartquotes = False  # -- is the beginning of an option
# Blocks of commands are marked as "console" without prompts
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"sdactivate {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
templates_path = ["templates"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_use_index = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
