"""The errors a user can meet, each with its cause, the way out and the exit code of the command."""


class TinyDDPMError(ValueError):
    """Something a user can put right: what is wrong, why, and what to do about it.

    Attributes:
        cause: what was found, where that differs from the message; may be empty.
        remedy: what to try; may be empty.
        exit_code: what the command line exits with.
    """

    exit_code = 2

    def __init__(self, message: str, *, cause: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        """All that is known, on as many lines."""
        lines = [self.args[0]]
        if self.cause:
            lines.append(f"cause: {self.cause}")
        if self.remedy:
            lines.append(f"try: {self.remedy}")
        return "\n".join(lines)


class FailedCheckError(TinyDDPMError):
    """A result is one that a right program cannot have, whatever it was given."""

    exit_code = 1


class UsageError(TinyDDPMError):
    """An option or argument out of range, or a pair that does not go together."""


class DeviceError(TinyDDPMError):
    """The device asked for is not there, or its libraries are not."""


class DataError(TinyDDPMError):
    """A data set is missing, damaged, or not what it should be."""

    exit_code = 3


class MissingFilesError(DataError):
    """The folder that was named lacks files of a data set known by name; nothing was read."""


class CheckpointError(TinyDDPMError):
    """A checkpoint is missing, damaged, or belongs to another model."""

    exit_code = 4


class NonFiniteError(TinyDDPMError):
    """A loss or a gradient is not finite; nothing was updated."""

    exit_code = 5


class StorageError(TinyDDPMError):
    """A file could not be written: no space, no permission, or the folder is gone."""

    exit_code = 6


class RunLockedError(TinyDDPMError):
    """Another process is training in this run directory."""

    exit_code = 75
