"""
Runs as spans and metrics of OpenTelemetry (``open_telemetry``), and the results of the last runs as a text file for
Prometheus' exporter (``textfile``).

All follow the events of a run. Spans and metrics are made where the process has loaded OpenTelemetry, since without an
SDK that was set up nobody would receive them; files where ``PENSTOCK_METRICS_DIR`` names a directory.
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock import Event

METRICS_DIR = "PENSTOCK_METRICS_DIR"
_logger = logging.getLogger("penstock")


def follow(event: "Event") -> None:
    """Take one event of a run."""
    if "opentelemetry.trace" in sys.modules:
        from penstock_plugins.telemetry.open_telemetry import count, follow_spans

        follow_spans(event)
        count(event)
    if event["event"] == "run_finished" and (folder := os.environ.get(METRICS_DIR)):
        from penstock_plugins.telemetry.textfile import write

        try:
            write(Path(folder), event)
        except OSError as error:
            remedy = "Name a directory that exists and that this user may write"
            _logger.warning("%s %s: no metrics were written: %s. %s", METRICS_DIR, folder, error.strerror, remedy)
