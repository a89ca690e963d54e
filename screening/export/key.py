"""The secret that pseudonyms are derived from: of an environment variable or a file, never of the command line."""

from __future__ import annotations

import os
from pathlib import Path

from screening.errors import ConfigError

KEY_VARIABLE = "SCREENING_EXPORT_KEY"
SHORTEST_KEY = 32
"""Characters. As hexadecimal digits they are 128 bits; NIST SP 800-107 asks for at least 112."""
_LEAST_DIFFERENT = 8
_LONGEST_FILE = 4096
_HOW = "make one with `openssl rand -hex 32`"


def load_key(file: Path | None = None) -> bytes:
    """The key, of `file` where one is named, else of the environment variable SCREENING_EXPORT_KEY.

    White space around it is no part of it, so that the same key with a line end is the same key.

    Raises
    ------
    ConfigError
        If there is none, if it is too short or too plain to be secret, or if others may read the file. The message
        never quotes it.
    """
    if file is None:
        text, where = os.environ.get(KEY_VARIABLE, ""), f"the environment variable {KEY_VARIABLE}"
        if not text.strip():
            raise ConfigError(
                f"a pseudonymised export needs a secret key: set {KEY_VARIABLE} or name a file with --key-file; {_HOW}"
            )
        key = text.strip().encode("utf-8", "surrogateescape")
    else:
        key, where = _of_file(file), f"the key file {file}"
    if len(key) < SHORTEST_KEY:
        raise ConfigError(f"the key in {where} is too short ({len(key)} of at least {SHORTEST_KEY} characters); {_HOW}")
    if len(set(key)) < _LEAST_DIFFERENT:
        raise ConfigError(f"the key in {where} repeats the same few characters and can be guessed; {_HOW}")
    return key


def _of_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"the key file {file} cannot be read ({error.strerror}); {_HOW}") from error
    if mode & 0o077:
        raise ConfigError(f"the key file {file} can be read or changed by others than its owner: chmod 600 it")
    if len(content) > _LONGEST_FILE:
        raise ConfigError(f"the key file {file} has more than {_LONGEST_FILE} bytes and is no key; {_HOW}")
    return content.strip()
