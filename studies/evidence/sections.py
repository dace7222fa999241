"""studies/results.md: a page whose sections are written by different commands."""

from pathlib import Path

from rarts_mm.files import write_text

HEAD = """# Results

Each section is written by a command, which it names and which measures everything in it again.
"""


def write_section(page: Path, name: str, text: str) -> None:
    """Write one section of a page; the others stay. A new section goes to the end, a new page gets a head.

    Args:
        page: the Markdown file.
        name: of the section, in the comments around it.
        text: Markdown from a heading of the second level on.

    Raises:
        ValueError: only one of the two comments is there.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    old = page.read_text() if page.is_file() else HEAD
    first, last = old.find(begin), old.find(end)
    if first < 0 and last < 0:
        write_text(page, f"{old.rstrip()}\n\n{section}")
        return
    if first < 0 or last < first:
        raise ValueError(
            f"{page}: {begin} and {end} must both be there, in this order; remove the one that is, or "
            "write elsewhere with --out FILE"
        )
    write_text(page, old[:first] + section + old[last + len(end) :].removeprefix("\n"))
