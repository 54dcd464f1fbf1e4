"""The pipelines, one a stage of the method; nothing imports them."""
