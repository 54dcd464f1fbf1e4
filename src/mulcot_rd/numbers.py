"""The one place where a score becomes text, so that tables, figures, cards and reports show the same digits."""

from decimal import ROUND_HALF_UP, Decimal

# What arithmetic leaves behind the last digit that counts: 100 * 0.5725 is 57.25, and not a little less.
_NOISE = 9


def number_text(value: float, decimals: int = 1) -> str:
    """A number as it is, rounded once: a tie goes away from zero, and there is no minus zero.

    Args:
        value: The number; a percentage is 100 times its fraction, not rounded before.
        decimals: How many, at most 9.
    """
    rounded = Decimal(f"{value:.{_NOISE}f}").quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return str(abs(rounded) if rounded.is_zero() else rounded)


def percentage(share: float) -> float:
    """A fraction in percent, with all its digits."""
    return round(100 * share, _NOISE)


def percent_text(share: float) -> str:
    """A fraction in percent, to one decimal."""
    return number_text(percentage(share))


def interval_text(low: float, high: float) -> str:
    """The ends of an interval, two fractions, in percent."""
    return f"{percent_text(low)} to {percent_text(high)}"
