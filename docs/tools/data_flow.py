"""The data flow between the pipelines, drawn from the pipelines: ``python docs/tools/data_flow.py`` writes the figure.

A column a pipeline, a row a dataset: a filled dot where it is written, an open one wherever it is read.
"""

from html import escape
from pathlib import Path

from kedro.pipeline import Pipeline

from mulcot_rd.pipeline_registry import STAGES, stage

FIGURE = Path(__file__).parents[1] / "images" / "data_flow.svg"
_LEFT, _TOP, _COLUMN, _ROW = 190, 52, 128, 22
_INK, _LINE, _BANDS = "#223", "#445", ("#f2f2f5", "#e7edf6")


def flows() -> dict[str, tuple[str | None, list[str]]]:
    """Of each dataset that stages read from elsewhere: the stage that writes it, if any, and those that read it."""
    pipelines: dict[str, Pipeline] = {name: stage(name) for name in STAGES}
    writers = {dataset: name for name, pipeline in pipelines.items() for dataset in pipeline.all_outputs()}
    read: dict[str, list[str]] = {}
    for name, pipeline in pipelines.items():
        for dataset in sorted(pipeline.inputs()):
            # Parameters, and folders in which a node keeps its progress, are no data that flow.
            if not dataset.startswith("param") and not dataset.endswith(("_workspace", "_credentials")):
                read.setdefault(dataset, []).append(name)
    # What comes from elsewhere, such as other runs' files, stands last.
    order = [*STAGES, None]
    return {
        dataset: (writers.get(dataset), read[dataset])
        for dataset in sorted(read, key=lambda each: (order.index(writers.get(each)), each))
    }


def figure() -> str:
    """The figure, as SVG."""
    rows = flows()
    width, height = _LEFT + _COLUMN * len(STAGES) + 10, _TOP + _ROW * len(rows) + 14
    centre = {name: _LEFT + _COLUMN * (number + 0.5) for number, name in enumerate(STAGES)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{_INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, name in enumerate(STAGES):
        left = _LEFT + _COLUMN * number
        parts.append(f'<rect x="{left}" y="8" width="{_COLUMN}" height="{height - 16}" fill="{_BANDS[number % 2]}"/>')
        for line, word in enumerate(name.split("_")):
            at = f'x="{centre[name]:g}" y="{25 + 15 * line}"'
            parts.append(f'<text {at} text-anchor="middle" font-weight="bold">{escape(word)}</text>')
    for number, (dataset, (writer, readers)) in enumerate(rows.items()):
        y = _TOP + _ROW * (number + 0.5)
        start = _LEFT - 8 if writer is None else centre[writer]
        ends = [centre[reader] for reader in readers]
        parts.append(f'<text x="{_LEFT - 14}" y="{y + 4:g}" text-anchor="end">{escape(dataset)}</text>')
        line = f"M{start:g} {y:g} H{max(ends):g}"
        parts.append(f'<path d="{line}" stroke="{_LINE}" stroke-width="1.5"/>')
        for end in ends:
            parts.append(f'<circle cx="{end:g}" cy="{y:g}" r="5" fill="#ffffff" stroke="{_LINE}" stroke-width="1.5"/>')
        if writer is not None:
            parts.append(f'<circle cx="{start:g}" cy="{y:g}" r="5.5" fill="{_LINE}"/>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.write_text(figure())
