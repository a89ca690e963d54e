"""Parts of a page that a program writes anew each time it measures, between two comments that readers do not see."""

from __future__ import annotations

import re
from pathlib import Path

from screening.errors import ConfigError

_BLOCK = re.compile(r"<!-- (?P<name>[a-z-]+): begin -->\n.*?<!-- (?P=name): end -->\n?", re.DOTALL)


def put_block(page: Path, name: str, text: str) -> None:
    """Put `text` between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a page.

    They are added at the end of a page without them; a page that is not there is made. Raises `ConfigError` where only
    one of the two is there, or the page cannot be read or written.
    """
    try:
        content = page.read_text(encoding="utf-8") if page.exists() else ""
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_with(content, name, f"{_begin(name)}\n{text.strip()}\n{_end(name)}\n", page), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{page} cannot be written: {error.strerror}") from error


def keep_blocks(old: str, new: str) -> str:
    """The page `new` with the blocks of `old` that it has not, at its end: what other programs measured stays."""
    kept = [found[0].rstrip("\n") for found in _BLOCK.finditer(old) if _begin(found["name"]) not in new]
    return "\n\n".join([new.rstrip("\n"), *kept]) + "\n"


def _with(content: str, name: str, block: str, page: Path) -> str:
    if _begin(name) not in content and _end(name) not in content:
        return f"{content.rstrip()}\n\n{block}" if content.strip() else block
    for found in _BLOCK.finditer(content):
        if found["name"] == name:
            return content[: found.start()] + block + content[found.end() :]
    raise ConfigError(f"{page} has one of the lines {_begin(name)} and {_end(name)} without the other, or out of order")


def _begin(name: str) -> str:
    return f"<!-- {name}: begin -->"


def _end(name: str) -> str:
    return f"<!-- {name}: end -->"
