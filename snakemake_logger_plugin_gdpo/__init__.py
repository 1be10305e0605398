"""`snakemake --logger gdpo`: Snakemake's door to the display of gdpo.display.live, found by the name of this package.

A dry run, and whatever else runs no job, says what Snakemake says.
"""

from __future__ import annotations

import signal
import sys
from logging import LogRecord

from snakemake.logging import logger
from snakemake_interface_logger_plugins.base import LogHandlerBase

from gdpo.display.live import Display
from gdpo.display.snakemake_compat import text_handler
from gdpo.display.terminal import INTERRUPTED, Interrupts, Terminal, log_file, stopped


class LogHandler(LogHandlerBase):
    """Draws the workflow's progress on stderr, while everything else goes to Snakemake's log file."""

    def __post_init__(self) -> None:
        self.interrupts = Interrupts()
        self.terminal = Terminal()
        self.display: Display | None = None  # while jobs run
        self.plain = text_handler(self.common_settings)
        self.ended = False
        self.before: list[LogRecord] = []  # what was said before it was clear whether jobs run

    def emit(self, record: LogRecord) -> None:
        try:
            if self.common_settings.dryrun:
                self._say_plainly(record)
                return
            if self.display is None and getattr(record, "event", None) == "workflow_started":
                self._begin()
            if self.display is None:
                self.before.append(record)
                return
            self.display.stopping = self.interrupts.pressed.is_set()
            self.display.receive(record, self.format(record))
        except Exception:
            self.handleError(record)

    def _begin(self) -> None:
        self.before.clear()
        log = log_file(logger)
        self.display = Display(self.terminal.console(self.common_settings.nocolor), log=log, size=self.terminal.size)
        if log is not None:
            self.terminal.give_up(log)

    def _say_plainly(self, record: LogRecord) -> None:
        self.plain.setFormatter(self.formatter)
        self.plain.handle(record)

    def close(self) -> None:
        """End the display; after Ctrl-C also this process, since Snakemake would say more and exit with 1."""
        if self.ended:  # logging closes it once more
            return
        self.ended = True
        super().close()
        interrupted = self.interrupts.pressed.is_set()
        if interrupted:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        for record in self.before:
            self._say_plainly(record)
        if self.display is not None or interrupted:
            display = self.display or Display(self.terminal.console(self.common_settings.nocolor))
            display.close(stopped() if interrupted else "")
            self.terminal.take_back()
        if interrupted:
            sys.exit(INTERRUPTED)

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True  # every event is counted, also those that --quiet keeps from the text

    @property
    def has_formatter(self) -> bool:
        return False

    @property
    def needs_rulegraph(self) -> bool:
        return False
