"""Terminal output of the local stack: the lines of its programs and a progress bar."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from protocol.registry.presence import WorkerReport

NAME_WIDTH = 6
STYLES = {"redis": "red", "worker": "magenta", "api": "cyan"}


class TerminalDisplay:
    """Lines prefixed with the program's name, and a progress bar while the model loads.

    If the output is not a terminal, each new status of the worker is a line instead of a bar.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar: TaskID | None = None
        self._last_status = ""

    def line(self, program: str, text: str) -> None:
        """Print the line `text` of `program`."""
        prefix = (f"{program:>{NAME_WIDTH}} │ ", STYLES.get(program, ""))
        self.console.print(Text.assemble(prefix, text), soft_wrap=True)

    def worker(self, report: WorkerReport) -> None:
        """Show the worker's start-up progress."""
        if report.state.serves:
            self._progress.stop()
            self._bar = None
        status = _status_text(report)
        if not self.console.is_terminal:
            self._print_status(status)
        elif not report.state.serves:
            self._update_bar(status, report.progress)

    def _print_status(self, status: str) -> None:
        if status != self._last_status:
            self._last_status = status
            self.line("worker", status)

    def _update_bar(self, status: str, progress: float | None) -> None:
        if self._bar is None:
            self._progress.start()
            self._bar = self._progress.add_task(status, total=1.0)
        self._progress.update(self._bar, description=status, completed=progress or 0.0)

    def close(self) -> None:
        """Remove the progress bar from the terminal."""
        self._progress.stop()


class BufferedDisplay(TerminalDisplay):
    """A display that buffers the programs' lines, to print them only after a failure."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lines: list[tuple[str, str]] = []

    def line(self, program: str, text: str) -> None:
        """Buffer the line `text` of `program`."""
        self._lines.append((program, text))

    def print_lines(self) -> None:
        """Print every buffered line."""
        for program, text in self._lines:
            super().line(program, text)


def _status_text(report: WorkerReport) -> str:
    subject = f" {report.model}" if report.model else ""
    place = f" on {report.device}" if report.device else ""
    detail = f": {report.detail}" if report.detail else ""
    return f"{report.state.value.replace('_', ' ')}{subject}{place}{detail}"
