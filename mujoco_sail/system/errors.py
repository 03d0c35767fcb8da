"""The error that a user can mend, and foreign text in one line of a message."""

LONGEST = 1000  # letters of a line of a message


class UserError(ValueError):
    """A mistake of the user: its arguments are the lines of the whole message, one or two.

    They may quote whatever a stranger wrote; the text is fit for a terminal all the same.
    """

    def __str__(self) -> str:
        """The message."""
        return "\n".join(one_line(line) for line in self.args)


def one_line(text: object) -> str:
    """A stranger's text for the terminal: no line breaks, no control characters, no novels."""
    words = " ".join(str(text).split())
    if len(words) > LONGEST:
        words = f"{words[: LONGEST // 2]} ... {words[-LONGEST // 4 :]}"
    return "".join(letter if letter.isprintable() else "?" for letter in words)
