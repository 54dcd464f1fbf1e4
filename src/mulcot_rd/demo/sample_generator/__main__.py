"""Command line of the sample's generator."""

import argparse
from pathlib import Path

from mulcot_rd.demo.sample_generator.write import write_sample


def main() -> None:
    """Write the sample into the folder that is named."""
    parser = argparse.ArgumentParser(
        prog="python -m mulcot_rd.demo.sample_generator", description="Write the sample that ships with the project."
    )
    parser.add_argument("out", type=Path, help="folder to write to, such as data/01_raw/sample")
    parser.add_argument("--seed", type=int, default=0, help="seed of texts and images (the shipped sample has 0)")
    arguments = parser.parse_args()
    write_sample(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
