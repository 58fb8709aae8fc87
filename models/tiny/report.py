"""Puts what the repository keeps beside the model: log, loss curve, held-out stories.

    python report.py FOLDER OUT

copies FOLDER/training-log.csv to OUT, draws OUT/loss.svg from it, and writes
OUT/samples/held-out.txt: stories that were not trained on, one a line.
"""

import csv
import math
import shutil
import sys
from pathlib import Path

from evaluate import documents

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP = 720, 220, 48, 16, 28, 52
COLOURS = ("#1f6f8b", "#d1495b", "#3d8b37")


def panel(top, title, series, low, high, ticks, tokens, log=False):
    """One diagram: series is a list of (name, [(tokens, value), ...])."""
    f = math.log if log else (lambda v: v)
    x = lambda t: LEFT + (WIDTH - LEFT - RIGHT) * t / tokens
    y = lambda v: top + HEIGHT * (1 - (f(min(max(v, low), high)) - f(low)) / (f(high) - f(low)))
    out = [f'<text x="{LEFT}" y="{top - 10}" font-weight="bold">{title}</text>']
    for v in ticks:
        out.append(f'<path d="M{LEFT} {y(v):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for million in range(0, int(tokens / 1e6) + 1):
        out.append(f'<text x="{x(million * 1e6):.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{million}</text>')
    for (name, points), colour in zip(series, COLOURS):
        line = "L".join(f"{x(t):.1f} {y(v):.1f}" for t, v in points)
        out.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    for i, ((name, _), colour) in enumerate(zip(series, COLOURS)):
        out.append(f'<text x="{WIDTH - RIGHT}" y="{top + 16 + 16 * i}" text-anchor="end" fill="{colour}">{name}</text>')
    return out


def draw(rows):
    """Above the losses, below the best head of either kind."""

    def column(name):
        return [(int(r["tokens"]), float(r[name])) for r in rows if r[name]]

    tokens = int(rows[-1]["tokens"])
    height = 2 * (TOP + HEIGHT) + GAP + 24
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    losses = [("training", column("loss")), ("held-out stories", column("held_out"))]
    out += panel(TOP, "Loss, nats per token (logarithmic)", losses, 0.2, 7, (0.2, 0.5, 1, 2, 5), tokens, log=True)
    scores = [("induction", column("induction")), ("previous token", column("previous"))]
    out += panel(2 * TOP + HEIGHT + GAP - 24, "Highest score of a head", scores, 0, 1, (0, 0.25, 0.5, 0.75, 1), tokens)
    out.append(f'<text x="{WIDTH / 2}" y="{height - 8}" text-anchor="middle">million tokens</text>')
    return "\n".join(out + ["</svg>\n"])


def held_out_text(docs, size=3000):
    """Short stories of different kinds until there are enough characters."""
    lines, kinds = [], {"long", "list", "roll-call"}
    for doc in docs:
        if doc["kind"] not in kinds and sum(map(len, lines)) < size:
            kinds.add(doc["kind"])
            lines.append(doc["text"])
    return "\n".join(lines) + "\n"


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.copyfile(folder / "training-log.csv", out / "training-log.csv")
    with open(out / "training-log.csv") as f:
        (out / "loss.svg").write_text(draw(list(csv.DictReader(f))))
    (out / "samples").mkdir(exist_ok=True)
    (out / "samples" / "held-out.txt").write_text(held_out_text(documents(folder)))


if __name__ == "__main__":
    main()
