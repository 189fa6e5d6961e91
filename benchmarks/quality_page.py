"""The table and the plot of benchmarks/quality.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """One pruned model."""

    method: str
    keep: float
    seed: int
    kept: float
    """Fraction of the prunable parameters that was kept."""
    perplexity: dict[str, float]
    """By evaluation text."""
    wall_s: float
    cpu_s: float
    peak_gib: float
    shared: bool
    """Whether stages of earlier rows were found again: the times then leave these out."""


def page(
    command: str, sample: str, threads: int, dense: dict[str, float], rows: Sequence[Row]
) -> str:
    """All rows, one table per fraction kept, the dense model's perplexity as the ideal."""
    seeds = sorted({one.seed for one in rows})
    lines = [
        f"`{command}`: calibration {sample}, samples {', '.join(map(str, seeds))}, {threads} threads.",
        "Perplexity, a sample each; excess over the dense model as a fraction of FLAP's and of the",
        "numerical score's, means over samples. Times marked * leave out stages that a row before made.",
    ]
    texts = list(dense)
    for keep in sorted({one.keep for one in rows}, reverse=True):
        here = [one for one in rows if one.keep == keep]
        lines += ["", f"## keep {keep:g}", ""]
        titles = [f"{text} | of FLAP | of numerical" for text in texts]
        lines.append(f"| method | kept | {' | '.join(titles)} | CPU s | wall s | peak GiB |")
        lines.append("|---|---:|" + "---:|---:|---:|" * len(texts) + "---:|---:|---:|")
        cells = [f"{dense[text]:.2f} | 0 | 0" for text in texts]
        lines.append(f"| dense | 1 | {' | '.join(cells)} | | | |")
        lines += [_line(name, here, dense) for name in dict.fromkeys(one.method for one in here)]
    return "\n".join(lines) + "\n"


def _line(name: str, here: Sequence[Row], dense: dict[str, float]) -> str:
    own = [one for one in here if one.method == name]
    cells = []
    for text, ideal in dense.items():
        excess = fmean(one.perplexity[text] for one in own) - ideal
        shares = []
        for reference in ("flap", "numerical"):
            seeds = {one.seed for one in own}
            other = [
                one.perplexity[text]
                for one in here
                if one.method == reference and one.seed in seeds
            ]
            shares.append(f"{excess / (fmean(other) - ideal):.2f}" if other else "")
        values = " / ".join(f"{one.perplexity[text]:.2f}" for one in own)
        cells.append(f"{values} | {' | '.join(shares)}")
    star = "*" if any(one.shared for one in own) else ""
    kept = fmean(one.kept for one in own)
    cost = f"{fmean(one.cpu_s for one in own):.0f}{star} | {fmean(one.wall_s for one in own):.0f}{star}"
    peak = max(one.peak_gib for one in own)
    return f"| {name} | {kept:.4f} | {' | '.join(cells)} | {cost} | {peak:.1f} |"


def plot(dense: dict[str, float], rows: Sequence[Row], path: Path) -> None:
    """Perplexity against the fraction kept, one panel a text, the dense model as a line."""
    figure = Figure(figsize=(5 * len(dense), 4), layout="constrained")
    for number, (text, ideal) in enumerate(dense.items(), start=1):
        axes = figure.add_subplot(1, len(dense), number)
        for name in dict.fromkeys(one.method for one in rows):
            own = [one for one in rows if one.method == name]
            keeps = sorted({one.keep for one in own})
            means = [
                fmean(one.perplexity[text] for one in own if one.keep == keep) for keep in keeps
            ]
            axes.plot(keeps, means, marker="o", label=name)
        axes.axhline(ideal, color="black", linestyle="--", label="dense")
        axes.set(yscale="log", xlabel="fraction kept", ylabel="perplexity", title=text)
    axes.legend(fontsize="small")
    figure.savefig(path)
