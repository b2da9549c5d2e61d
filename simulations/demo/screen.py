"""What a person sees: a progress bar where there is a terminal, plain lines everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from simulations.demo.result import Result
from simulations.demo.silent_loss import Noticed
from simulations.demo.tally import Answered, Contest, Window

PLAIN_WIDTH = 110
LABELS = {
    "always_cheapest": "always-cheapest",
    "always_best": "always-best",
    "random": "random",
    "static_mix": "best static mix at the router's spend",
}


def make_console() -> Console:
    """Standard output; without a terminal wide enough for every line of ours."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def short_names(models: Sequence[str]) -> tuple[str, ...]:
    """``google/gemini-2.5-pro`` → ``gemini``, where that still tells the models apart."""
    families = [name.rsplit("/", 1)[-1].split("-", 1)[0] for name in models]
    return tuple(families) if len(set(families)) == len(families) else tuple(models)


def dollars(amount: float) -> str:
    """Three figures, and never an exponent: a reader compares them down a column."""
    if amount >= 1.0:
        return f"${amount:,.2f}"
    digits = 3
    while digits < 9 and amount < 10.0 ** (2 - digits) and amount > 0.0:
        digits += 1
    return f"${amount:.{digits}f}"


class Screen:
    """Prints a run as it goes."""

    def __init__(self, console: Console, contest: Contest) -> None:
        self._console = console
        self._contest = contest
        self._names = short_names(contest.matrix.models)
        self._progress: Progress | None = None
        self._answered, self._judged, self._quality, self._cost_usd = 0, 0, 0.0, 0.0

    def say(self, line: str = "", style: str | None = None) -> None:
        """One line of plain text, never wrapped or cut."""
        self._console.print(escape(line), style=style, soft_wrap=True)

    def introduce(self, budget_usd: float) -> None:
        """Who is in the contest, and under what rule."""
        contest, names = self._contest, self._contest.matrix.models
        self.say(
            f"{len(contest.matrix.prompts):,} recorded prompts, {len(names)} models that answer "
            f"from the recording, {dollars(budget_usd)} a request to spend.",
            "bold",
        )
        width = max(map(len, names))
        for k, (name, model) in enumerate(zip(names, contest.models, strict=True)):
            role = {contest.cheapest: "  always-cheapest", contest.best: "  always-best"}.get(k, "")
            self.say(
                f"  {name:<{width}}  quality {model.reward:.3f} at {dollars(model.cost_usd)}{role}"
            )
        self.say("The router is told none of these figures: it learns them from what it tries.")
        self.say()

    @contextmanager
    def windows(self) -> Iterator[None]:
        """The head of the lines, and the bar for as long as they come."""
        shares = "".join(f"{name[:9]:>10}" for name in self._names)
        self.say(
            f"{'requests':>11}  {'quality':>7} {'$/request':>10}{shares}  |  "
            f"{'cheapest':>8} {'best':>6} {'random':>6}",
            "bold",
        )
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        ) as progress:
            progress.add_task("asking the router", total=len(self._contest.matrix.prompts))
            self._progress = progress
            yield
        self._progress = None

    def advance(self, answer: Answered) -> None:
        """One more request was answered and rated: the bar moves, with the means so far."""
        self._answered += 1
        self._cost_usd += answer.cost_usd
        if answer.quality is not None:
            self._judged += 1
            self._quality += answer.quality
        if self._progress is not None:
            quality = self._quality / max(self._judged, 1)
            told = f"quality {quality:.3f} at {dollars(self._cost_usd / self._answered)}"
            self._progress.update(self._progress.task_ids[0], advance=1, description=told)

    def window(self, window: Window) -> None:
        """One line: the router, and what fixed choices made of the same prompts."""
        router, others = window.router, window.yardsticks
        shares = "".join(f"{share:>10.0%}" for share in router.shares)
        self.say(
            f"{f'{window.first}-{window.last}':>11}  {router.quality:>7.3f} "
            f"{dollars(router.cost_usd):>10}{shares}  |  "
            f"{others['always_cheapest'].quality:>8.3f} {others['always_best'].quality:>6.3f} "
            f"{others['random'].quality:>6.3f}"
        )

    def conclude(self, result: Result) -> None:
        """The table, what was learned, and what the log says of it."""
        self.say()
        self._console.print(self._table(result))
        for line in lessons(result):
            self.say(line)
        self.say()
        for line in account(result):
            self.say(line, None if result.audit.complete else "red")
        if result.noticed is not None:
            self.say()
            self.say("What the router noticed by itself:", "bold")
            for line in notices(result.noticed):
                self.say(line)

    def _table(self, result: Result) -> Table:
        table = Table()
        table.add_column(f"{result.whole.requests:,} requests")
        for name in ("quality", "$ a request", "$ in total", *self._names):
            table.add_column(name, justify="right", no_wrap=True)
        lines = {"router": result.whole.router}
        lines |= {LABELS[key]: line for key, line in result.whole.yardsticks.items()}
        for who, line in lines.items():
            table.add_row(
                who,
                f"{line.quality:.4f}",
                dollars(line.cost_usd),
                f"${line.cost_usd * result.whole.requests:,.2f}",
                *(f"{share:.1%}" for share in line.shares),
                style="bold" if who == "router" else None,
            )
        return table


def lessons(result: Result) -> list[str]:
    """What a reader should take home, as the numbers have it."""
    whole, later = result.whole, result.later
    second = "when it had learned" if result.noticed is None else "with the loss"
    best, router = whole.yardsticks["always_best"], whole.router
    return [
        f"The router spent {_times(whole.saving)} than always-best "
        f"({dollars(router.cost_usd)} against {dollars(best.cost_usd)} a request) at "
        f"{_difference(whole.ahead_of('always_best'))} quality "
        f"({router.quality:.3f} against {best.quality:.3f}).",
        f"Against the best static mix at its own spend, which is known only in hindsight, its "
        f"quality is {whole.ahead_of('static_mix'):+.4f}: "
        f"{later.ahead_of('static_mix'):+.4f} in the second half, {second}.",
    ]


def account(result: Result) -> list[str]:
    """What the log has of what was sent."""
    audit = result.audit
    told = (
        f"{audit.requests:,} requests: {audit.decisions:,} decisions, {audit.outcomes:,} outcomes "
        f"and {audit.rewards:,} rewards in Postgres, from {audit.feedback:,} feedbacks posted"
    )
    learned = "has learned from every row" if audit.learned else "has NOT learned from every row"
    lines = [
        f"{told}; {'nothing was lost' if audit.complete else 'SOMETHING IS MISSING'}.",
        f"Snapshot {audit.snapshot_version} {learned}.",
        f"The service added {1000.0 * result.overhead_s:.1f} ms to the median request; "
        f"the whole took {result.seconds:.0f} s.",
    ]
    if result.unjudged:
        lines.append(
            f"{result.unjudged} answers came from the local last resort, which nobody judged."
        )
    return lines


def notices(noticed: Noticed) -> list[str]:
    """A silent loss, and what followed from it without anybody's doing."""
    alarm, rollback = noticed.alarm, noticed.rollback
    return [
        f"  loss      after request {noticed.lost_after:,} the answers of {noticed.model} were "
        f"worth {noticed.kept:.0%} of what they had been; status, latency and cost stayed",
        f"  alarm     seen {alarm.requests} requests later, {alarm.of_model} of them its own: "
        f"{alarm.said}",
        f"  rollback  seen {rollback.requests} requests later: '{noticed.challenger}' has no "
        f"share of the requests any more; {rollback.said}",
        *(f"  advice    {' '.join(advice)}" for advice in noticed.advice),
        f"  traffic   {noticed.share_before:.0%} of the requests just before the loss went to it, "
        f"{noticed.share_after:.0%} of the last ones",
    ]


def _times(saving: float) -> str:
    return f"{saving:.1%} less" if saving >= 0.0 else f"{-saving:.1%} more"


def _difference(quality: float) -> str:
    return f"{-quality:.3f} less" if quality < 0.0 else f"{quality:.3f} more"
