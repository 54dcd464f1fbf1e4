"""Soft labels of a model that a test has in memory."""

from functools import partial

from mulcot_rd.training.soft_label_writing import write_shards, write_soft_labels


def store_soft_labels(loaded, examples, kept, made_from, parameters):
    """Write those of a loaded model, in evaluation mode, in this process."""
    write = partial(write_shards, loaded.model, loaded.encoder, examples)
    return write_soft_labels(write, loaded.encoder, examples, kept, made_from, parameters)
