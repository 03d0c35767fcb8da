"""Errors that a user can correct, and safe display of untrusted text in messages."""

LONGEST = 1000  # characters of a line of a message


class UserError(ValueError):
    """Error that a user can correct; its arguments are the one or two lines of the message.

    The lines may quote untrusted text: `str` makes them safe for a terminal.
    """

    def __str__(self) -> str:
        """Message, safe for a terminal."""
        return "\n".join(one_line(line) for line in self.args)


def one_line(text: object) -> str:
    """Makes untrusted text safe for a terminal: one line, no control characters, shortened."""
    words = " ".join(str(text).split())
    if len(words) > LONGEST:
        words = f"{words[: LONGEST // 2]} ... {words[-LONGEST // 4 :]}"
    return "".join(letter if letter.isprintable() else "?" for letter in words)
