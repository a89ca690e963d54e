"""The project's errors: each message is one sentence that says what is wrong and what to do."""


class ScreeningError(Exception):
    """Wrong use or environment; the command line prints the sentence and exits 2."""


class ConfigError(ScreeningError):
    """A configuration file (site profile, training recipe, bundle card) is invalid; the message names the key."""


class BundleError(ScreeningError):
    """A model bundle is missing, incomplete or was tampered with."""


class StoreError(ScreeningError):
    """Results cannot be written: folder not writable, disk full, or a store of another version."""


class StoreAwayError(StoreError):
    """The database is locked or cannot be reached at the moment; it may be again."""


class ImageError(Exception):
    """One image cannot be read or prepared; that image fails, the exam and the batch go on.

    The message names the cause but not the file: whoever knows the file adds it.
    """
