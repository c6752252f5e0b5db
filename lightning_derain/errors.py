"""The one exception that stands for a user's mistake."""


class UserError(ValueError):
    """A mistake of the user, not of the program.

    Its text is one sentence that says what is wrong, where, and what to do. The command line prints that sentence
    without a traceback and exits with 2.

    Args:
        text: the sentence; of one that a worker of torch's loader raised, torch makes a traceback, whose last line it
            is.
    """

    def __init__(self, text: str = "") -> None:
        if text.startswith("Caught ") and "DataLoader worker process" in text.partition("\n")[0]:
            text = text.strip().rpartition("\n")[2].partition(": ")[2]
        super().__init__(text)
