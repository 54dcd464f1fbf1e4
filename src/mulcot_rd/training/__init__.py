"""Training of assistant and student."""
