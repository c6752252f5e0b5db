"""The one exception that stands for a user's mistake."""


class UserError(ValueError):
    """A mistake of the user, not of the program.

    Its text is one sentence that says what is wrong, where, and what to do. The command line prints that sentence
    without a traceback and exits with 2.
    """
