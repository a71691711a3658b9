"""Draw README's figure from the runs of gain.py: recall by the number of real rare images.

python benchmarks/gain_figure.py docs/recall-by-real-images.svg
python benchmarks/gain_figure.py docs/recall-by-real-images.svg --half held-out
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gain import TASKS

from synthimg.evaluation.results import Results
from synthimg.evaluation.results_file import read_results
from synthimg.reporting import charts, page

ANY = {0: "none"} | {int(name.split("-")[0]): name for name in TASKS if name.endswith("-any")}
ARMS = {"real": ("best control", 60), "synthetic": ("with synthetic images", 165), "oracle": ("more real images", 325)}
"""Of each line its words, and where these begin."""


def spread(results: Results, arm: str) -> tuple[float, float, float]:
    """Recall at equal specificity and its 95 % band, which has no width for an arm that the curve leaves out."""
    matched, curve = results.recall.matched, results.recall.curve
    if matched is None or curve is None:
        raise SystemExit("a run without synthetic images or controls has no recall at equal specificity")
    name = matched.best_control if arm == "real" else arm
    mean = matched.recall[name]
    if name not in curve.arms:
        return mean, mean, mean
    at, band = curve.specificity.index(results.recall.specificity), curve.arms[name]
    return mean, band.low[at], band.high[at]


def main(to: Path, outputs: Path, which: str) -> None:
    end = "" if which == "all" else f"-{which}"
    found = {number: outputs / f"{name}{end}" for number, name in sorted(ANY.items())}
    there = {number: read_results(run) for number, run in found.items() if (run / "evaluate" / "metrics.json").exists()}
    lines = []
    for arm in ARMS:
        mean, low, high = zip(*(spread(results, arm) for results in there.values()), strict=True)
        lines.append(charts.Band(list(there), mean, low, high, arm))
    drawn = str(charts.bands(lines, "Recall by the number of real rare images, at equal specificity"))
    css = (Path(page.__file__).parent / "page.css").read_text()
    style = f"<style>{css} svg {{ background: #fff; font-family: sans-serif }}</style>"
    legend = "".join(f'<text class="label {arm}" x="{start}" y="232">{words}</text>' for arm, (words, start) in ARMS.items())
    svg = re.sub(r'viewBox="0 0 (\S+) \S+"', r'xmlns="http://www.w3.org/2000/svg" width="\1" viewBox="0 0 \1 240"', drawn)
    to.write_text(svg.replace("</title>", f"</title>{style}", 1).replace("</svg>", f"{legend}</svg>"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("to", type=Path)
    parser.add_argument("--outputs", type=Path, default=Path("outputs/gain"))
    parser.add_argument("--half", choices=["all", "development", "held-out"], default="all", dest="which")
    main(**vars(parser.parse_args()))
