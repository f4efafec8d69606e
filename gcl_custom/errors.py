"""What a user did can be mended by the user: such errors carry one clear message and no traceback."""


class UserError(Exception):
    """Bad input or a bad state of files: says what, where, why and what to do."""


class RecipeError(UserError):
    """A recipe that cannot be used; its text lists every mistake."""


class DoneMeanwhile(Exception):  # noqa: N818  no error: the work is there already
    """A shared stage was finished elsewhere while this process waited for it; whoever wanted it looks again."""


class Busy(UserError):  # noqa: N818  a state of files, named as in the messages
    """Another process works in a folder."""


class StaleStage(UserError):  # noqa: N818  a state of files, named as in the messages
    """A stage's output was made from other settings or other inputs."""
