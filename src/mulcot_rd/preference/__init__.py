"""From imitation to preference: pairs of reasonings, scored by what can be checked, and the training on them."""

# The student after preference optimisation, as a model of its run.
STUDENT_PREFERENCE = "student_preference"
