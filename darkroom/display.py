"""What a person sees in the terminal while the house runs: its programs' lines, and progress."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from protocol.registry.presence import WorkerReport

NAME_WIDTH = 6
STYLES = {"redis": "red", "worker": "magenta", "api": "cyan"}


class TerminalDisplay:
    """Lines with the program's name before them; a bar below them while the model loads.

    Where the output is no terminal, each new word of the worker is a line instead of a bar.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar: TaskID | None = None
        self._told = ""

    def line(self, program: str, text: str) -> None:
        """`program` printed `text`."""
        prefix = (f"{program:>{NAME_WIDTH}} │ ", STYLES.get(program, ""))
        self.console.print(Text.assemble(prefix, text), soft_wrap=True)

    def worker(self, report: WorkerReport) -> None:
        """Show how far the worker is with getting ready."""
        if report.state.serves:
            self._progress.stop()
            self._bar = None
        words = _words(report)
        if not self.console.is_terminal:
            self._tell(words)
        elif not report.state.serves:
            self._move_bar(words, report.progress)

    def _tell(self, words: str) -> None:
        if words != self._told:
            self._told = words
            self.line("worker", words)

    def _move_bar(self, words: str, progress: float | None) -> None:
        if self._bar is None:
            self._progress.start()
            self._bar = self._progress.add_task(words, total=1.0)
        self._progress.update(self._bar, description=words, completed=progress or 0.0)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()


class QuietDisplay(TerminalDisplay):
    """Keeps the programs' lines to itself, to be shown should something fail."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._kept: list[tuple[str, str]] = []

    def line(self, program: str, text: str) -> None:
        """Keep what `program` printed."""
        self._kept.append((program, text))

    def show_kept(self) -> None:
        """Show every line kept so far."""
        for program, text in self._kept:
            super().line(program, text)


def _words(report: WorkerReport) -> str:
    subject = f" {report.model}" if report.model else ""
    place = f" on {report.device}" if report.device else ""
    detail = f": {report.detail}" if report.detail else ""
    return f"{report.state.value.replace('_', ' ')}{subject}{place}{detail}"
