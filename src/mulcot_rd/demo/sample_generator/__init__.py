"""The generator of the shipped sample: ``python -m mulcot_rd.demo.sample_generator OUT --seed 0``.

Six hundred invented posts with drawn images, in which some labels can only be got right from the text, some only from
the image, and some by seeing that text and image contradict each other.
"""

from mulcot_rd.demo.sample_generator.write import write_sample

__all__ = ["write_sample"]
