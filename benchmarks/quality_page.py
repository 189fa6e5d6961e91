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
    seeds = sorted({row.seed for row in rows})
    lines = [
        f"`{command}`: calibration {sample}, samples {', '.join(map(str, seeds))}, {threads} threads.",
        "Perplexity, a sample each; excess over the dense model as a fraction of FLAP's and of the",
        "numerical score's, means over samples. Times marked * leave out stages that a row before made.",
    ]
    texts = list(dense)
    for keep in sorted({row.keep for row in rows}, reverse=True):
        here = [row for row in rows if row.keep == keep]
        lines += ["", f"## keep {keep:g}", ""]
        titles = [f"{text} | of FLAP | of numerical" for text in texts]
        lines.append(f"| method | kept | {' | '.join(titles)} | CPU s | wall s | peak GiB |")
        lines.append("|---|---:|" + "---:|---:|---:|" * len(texts) + "---:|---:|---:|")
        cells = [f"{dense[text]:.2f} | 0 | 0" for text in texts]
        lines.append(f"| dense | 1 | {' | '.join(cells)} | | | |")
        lines += [_line(name, here, dense) for name in dict.fromkeys(row.method for row in here)]
    return "\n".join(lines) + "\n"


def _line(name: str, here: Sequence[Row], dense: dict[str, float]) -> str:
    own = [row for row in here if row.method == name]
    cells = []
    for text, ideal in dense.items():
        excess = fmean(row.perplexity[text] for row in own) - ideal
        shares = []
        for reference in ("flap", "numerical"):
            seeds = {row.seed for row in own}
            other = [
                row.perplexity[text]
                for row in here
                if row.method == reference and row.seed in seeds
            ]
            shares.append(f"{excess / (fmean(other) - ideal):.2f}" if other else "")
        values = " / ".join(f"{row.perplexity[text]:.2f}" for row in own)
        cells.append(f"{values} | {' | '.join(shares)}")
    star = "*" if any(row.shared for row in own) else ""
    kept = fmean(row.kept for row in own)
    cost = f"{fmean(row.cpu_s for row in own):.0f}{star} | {fmean(row.wall_s for row in own):.0f}{star}"
    peak = max(row.peak_gib for row in own)
    return f"| {name} | {kept:.4f} | {' | '.join(cells)} | {cost} | {peak:.1f} |"


def plot(dense: dict[str, float], rows: Sequence[Row], path: Path) -> None:
    """Perplexity against the fraction kept, one panel a text, the dense model as a line."""
    figure = Figure(figsize=(5 * len(dense), 4), layout="constrained")
    for number, (text, ideal) in enumerate(dense.items(), start=1):
        axes = figure.add_subplot(1, len(dense), number)
        for name in dict.fromkeys(row.method for row in rows):
            own = [row for row in rows if row.method == name]
            keeps = sorted({row.keep for row in own})
            means = [
                fmean(row.perplexity[text] for row in own if row.keep == keep) for keep in keeps
            ]
            axes.plot(keeps, means, marker="o", label=name)
        axes.axhline(ideal, color="black", linestyle="--", label="dense")
        axes.set(yscale="log", xlabel="fraction kept", ylabel="perplexity", title=text)
    axes.legend(fontsize="small")
    figure.savefig(path)
