"""Format durations."""

MINUTES_A_DAY = 24 * 60


def duration(seconds: float) -> str:
    """Formats a duration such as `40 s`, `4 min`, `3 h 12 min` or `2 d 3 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < MINUTES_A_DAY:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"
