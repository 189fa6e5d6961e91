"""Times as people read them."""


def duration(seconds: float) -> str:
    """
    >>> duration(9.4), duration(75), duration(7325)
    ('9 s', '1 min 15 s', '2 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
