"""Owns the table: one line per figure, ours beside its limit or its peer, with `ok` or `missed`; and every sample."""

import sys
from dataclasses import dataclass, field


@dataclass
class Line:
    """One row of the table. `target` and `ratio` are text; `ok` is None where nothing is promised."""

    what: str
    ours: str
    target: str = ""
    ratio: str = ""
    ok: bool | None = None


@dataclass
class Report:
    lines: list[Line] = field(default_factory=list)
    samples: dict[str, list] = field(default_factory=dict)

    def tell(self, what, ours):
        self.lines.append(Line(what, ours))

    def at_most(self, what, value, limit, unit, digits=1):
        ours, target = f"{value:.{digits}f} {unit}", f"≤ {limit:g} {unit}"
        self.lines.append(Line(what, ours, target, f"{value / limit:.2f}", value <= limit))

    def at_least(self, what, ours, peer, factor, peer_name, unit="", digits=0):
        """Ours is to be at least `factor` times the peer's figure of the same run."""
        target = f"≥ {factor:g} x {peer_name} ({peer:,.{digits}f})"
        ratio = ours / peer
        self.lines.append(Line(what, f"{ours:,.{digits}f} {unit}".strip(), target, f"{ratio:.2f}", ratio >= factor))

    def at_most_of(self, what, ours, peer, factor, peer_name, unit, digits=2):
        """Ours is to be at most `factor` times the peer's figure of the same run."""
        target = f"≤ {factor:.2f} x {peer_name} ({peer:,.{digits}f})"
        ratio = ours / peer
        self.lines.append(Line(what, f"{ours:,.{digits}f} {unit}", target, f"{ratio:.2f}", ratio <= factor))

    def sample(self, kind, **values):
        self.samples.setdefault(kind, []).append(values)

    def table(self):
        verdict = {True: "ok", False: "missed", None: ""}
        cells = [["what", "ours", "limit or peer", "ratio", ""]]
        cells += [[line.what, line.ours, line.target, line.ratio, verdict[line.ok]] for line in self.lines]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
        )

    @property
    def missed(self):
        return [line.what for line in self.lines if line.ok is False]


def say(text):
    print(text, file=sys.stderr, flush=True)
