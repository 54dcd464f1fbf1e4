"""Human ratings of reasonings: blind sheets to fill in, and what filled sheets come to."""

from mulcot_rd.ratings.agreement import cohen_kappa, fleiss_kappa
from mulcot_rd.ratings.evaluate import RatingError, evaluate_ratings
from mulcot_rd.ratings.sheet import CRITERIA, SCALE, make_sheet, write_sheet

__all__ = [
    "CRITERIA",
    "SCALE",
    "RatingError",
    "cohen_kappa",
    "evaluate_ratings",
    "fleiss_kappa",
    "make_sheet",
    "write_sheet",
]
