"""The pipelines, one a stage of the method; nothing below imports them."""

# Tag of a node that copes with inputs which are not on disk: they arrive empty instead of ending the run.
OPTIONAL_INPUTS = "optional_inputs"
