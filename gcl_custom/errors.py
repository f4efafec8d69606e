"""Errors that a user can mend. The command line shows their message without a traceback."""


class UserError(Exception):
    """Bad input, or a bad state of files. The message says what, where, why and what to do."""


class RecipeError(UserError):
    """A recipe that cannot be used. The message lists every mistake."""


class Stopped(BaseException):
    """A signal asked the process to end, and what was done so far is kept.

    It is no KeyboardInterrupt, since the library of the command line catches that and ends without a word.
    """

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


class DoneMeanwhile(Exception):  # noqa: N818  no error: the work is done
    """Another process finished a shared stage while this one waited for it. The caller looks at the stage again."""


class Busy(UserError):  # noqa: N818  a state of files, named as in the messages
    """Another process is working in a folder."""


class Refused(UserError):  # noqa: N818  named as in the messages
    """A recipe that a run does not go on with. Nothing was begun, so the run keeps the recipe that it had."""


class StaleStage(Refused):
    """A stage's output was made from other settings or other inputs."""
