"""A trained student or assistant in use: verdicts on posts that have no label."""
