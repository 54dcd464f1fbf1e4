"""The model families, a module each. Whatever module here defines ``FAMILY`` is known to the project by its name."""
