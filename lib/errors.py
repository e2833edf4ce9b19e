"""Every error the kit raises on purpose. A message is one line: the thing, its value, what would be right, the next step.

KitError
|- ConfigError     an unknown or ill-typed setting, parameter, submission, variant or profile
|- DataError       a file of a data set that is missing or malformed (names file and line)
|- WeightsError    a checkpoint that is missing, damaged or of another architecture
|- MissingInput    something an earlier stage, or the user, has to provide first
|- RecordError     a run record that is missing, damaged or does not match its files
|- ServiceError    an outside service answered nothing usable
|- StageFailed     a stage's notebook, or the program it started, did not finish
|- DiskFull        the disk is full (or the quota reached); nothing half-written is left
"""


class KitError(Exception):
    """Base of all errors a user can act on; `python -m lib` prints it as one line and exits with 1."""


class ConfigError(KitError):
    """A setting, parameter or name that the kit does not know, or a value it cannot take."""


class DataError(KitError):
    """A file of a data set is missing or malformed; the message names file and line."""


class WeightsError(KitError):
    """A checkpoint is missing, damaged, unsafe to load or of another architecture."""


class MissingInput(KitError):
    """An earlier stage, a download or a file by hand has to come first; the message names it."""


class RecordError(KitError):
    """A run record is missing, damaged or does not match the files it describes."""


class ServiceError(KitError):
    """An outside service (a language model) answered nothing usable; the message names it, never its key."""


class StageFailed(KitError):
    """A stage did not finish; the message names its log."""


class DiskFull(KitError):
    """No space left where the kit writes; the message names the folder."""
