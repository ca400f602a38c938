"""What a situation showed: trials, and what was lost, invented or unreadable; and the table of all.

Knows no situation.
"""

import dataclasses
import threading
import time

COLUMNS = ("situation", "trials", "lost", "invented", "unreadable", "seconds", "verdict")


@dataclasses.dataclass
class Tally:
    """Counts of one situation.

    lost: what was answered, accepted or written, and is not there any more; a client left without
    its answer. invented: a reward without the votes behind it, a member too many, a group judged
    anew, a file too many. unreadable: a file that cannot be read or holds other bytes.
    """

    situation: str
    trials: int = 0
    lost: int = 0
    invented: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    reasons: list = dataclasses.field(default_factory=list)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    def trial(self, count=1):
        with self.lock:
            self.trials += count

    def count(self, kind, why, count=1):
        """Counts a fault; `kind` is `lost`, `invented` or `unreadable`."""
        with self.lock:
            setattr(self, kind, getattr(self, kind) + count)
            self.reasons.append(f"{kind}: {why}")

    def check(self, holds, kind, why):
        """Counts a fault unless something holds."""
        if not holds:
            self.count(kind, why)
        return holds

    @property
    def is_clean(self):
        return self.trials > 0 and self.lost == self.invented == self.unreadable == 0

    def row(self):
        verdict = "holds" if self.is_clean else "FAULT"
        counts = (self.trials, self.lost, self.invented, self.unreadable)
        return (self.situation, *map(str, counts), f"{self.seconds:.0f}", verdict)


def run(name, situation, *args):
    """Plays a situation, a function of a tally; one that breaks off is a fault of its own."""
    tally = Tally(name)
    started = time.monotonic()
    try:
        situation(tally, *args)
    except Exception as error:  # the other situations are still played
        tally.count("lost", f"the situation broke off: {type(error).__name__}: {error}")
    tally.seconds = time.monotonic() - started
    return tally


def table(tallies):
    """The rows as a Markdown table, and below it the first reasons of each fault."""
    rows = [COLUMNS, *(tally.row() for tally in tallies)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(COLUMNS))
    for tally in tallies:
        lines += [f"  {tally.situation}: {reason}" for reason in tally.reasons[:8]]
        if len(tally.reasons) > 8:
            lines.append(f"  {tally.situation}: and {len(tally.reasons) - 8} more")
    return "\n".join(lines)
