"""The program that live.py starts: follows one training and keeps MLflow level with its files.

It is started as `python -m deepnets.tracking.follower` and is told of the training by the first
line of standard input, of its end by the second one. It imports no framework.
"""

import math
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from deepnets.tracking import connection

# isort: split
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.system_metrics.metrics import gpu_monitor
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from deepnets.base import project
from deepnets.tracking import live, runs, views
from deepnets.tracking.trainings import TrackedTraining

# Seconds between two looks at the files of a running training; twice as many after every failure.
_INTERVAL = 2.0
_LONGEST_INTERVAL = 60.0
# Seconds between two samples of CPU, memory and GPU use.
_SYSTEM_INTERVAL = 5.0


def main() -> int:
    """Follow the run that the first line of standard input describes, until it ends.

    Returns:
        The exit status: 0, or `live.WARNED`.
    """
    # Whatever stops the training, this process ends by itself once it has said so in MLflow.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # The training that it follows needs the processor more.
    if hasattr(os, "nice"):
        os.nice(10)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(connection.PATIENCE))
    first = sys.stdin.readline()
    return Follower(TrackedTraining.from_json(first)).follow() if first else 0


class Follower:
    """Keeps the store level with one training. The store may go and come back at any time."""

    def __init__(self, training: TrackedTraining) -> None:
        self._training = training
        self._words: queue.Queue[str] = queue.Queue()
        self._client: MlflowClient | None = None
        self._system: SystemMetricsMonitor | None = None
        self._patience = math.inf
        self._sending = False
        self._shown = False
        self._failures = 0  # since it was level last
        self._failure: Exception | None = None  # the last one
        self._sign = time.monotonic()  # of life, the last one
        self._warned = training.warned
        self._printing = threading.Lock()

    def follow(self) -> int:
        """Send what there is until what is followed has ended; returns the exit status."""
        if project.tracking_uri().startswith("http"):
            # What is no number, the first request refuses.
            with suppress(ValueError):
                self._patience = float(MLFLOW_HTTP_REQUEST_TIMEOUT.get())
            sys.addaudithook(self._notice)
        threading.Thread(target=self._listen, daemon=True).start()
        word = None if self._training.live else self._words.get()
        while word is None:
            # One failure may be a connection that broke at the wrong moment.
            if not self._send("RUNNING") and self._failures > 1:
                self._warn()
            wait = min(_INTERVAL * 2 ** min(self._failures, 10), _LONGEST_INTERVAL)
            with suppress(queue.Empty):
                word = self._words.get(timeout=wait)
        if word == "finished" or self._training.live:
            self._send_last({"finished": "FINISHED", "failed": "FAILED"}.get(word, "KILLED"))
        return live.WARNED if self._warned else 0

    def _send(self, status: str) -> bool:
        self._sending = True
        try:
            if self._client is None:
                client = connection.connect()
                experiment = client.get_experiment_by_name(self._training.experiment)
                if experiment is not None:
                    runs.end_abandoned(client, experiment)
                self._client = client
            run_id = runs.sync(self._client, self._training, status)
            if status == "RUNNING":
                self._sample_system(run_id)
            if not self._shown:
                self._show(self._client)
        except Exception as error:
            self._failures += 1
            self._failure = error
        else:
            self._failures, self._failure = 0, None
            self._sign = time.monotonic()
        self._sending = False
        return not self._failures

    def _show(self, client: MlflowClient) -> None:
        """Have the study seen as one from the first epoch; whoever publishes says why it is not."""
        with suppress(Exception):
            experiment = client.get_experiment_by_name(self._training.experiment)
            if experiment is not None:  # `mlflow run` may have been told another
                views.show(client, experiment)
            self._shown = True

    def _send_last(self, status: str) -> None:
        # Twice, since an answer may be lost on its way.
        if not self._is_silent() and not self._send(status) and not self._is_silent():
            self._send(status)
        if self._failures:
            self._warn()
        elif self._system:
            self._system.finish()

    def _sample_system(self, run_id: str) -> None:
        """Have the use of CPU, memory and GPU sampled. MLflow's thread ends when it cannot log."""
        if all(thread.name != "SystemMetricsMonitor" for thread in threading.enumerate()):
            self._system = SystemMetricsMonitor(
                run_id, sampling_interval=_SYSTEM_INTERVAL, resume_logging=True
            )
            for monitor in self._system.monitors:
                if isinstance(monitor, gpu_monitor.GPUMonitor):
                    monitor.gpu_handles = own_card(monitor.gpu_handles)
            self._system.start()

    def _listen(self) -> None:
        """Pass on the last word. Nobody waits for a store that is known to be silent by then."""
        self._words.put(sys.stdin.readline().strip() or "killed")
        if self._is_silent():
            self._warn()
            os._exit(live.WARNED)

    def _notice(self, event: str, _: object) -> None:
        """What is sent follows an answer, or continues what is being taken."""
        if event == "http.client.send" and not self._failures:
            self._sign = time.monotonic()

    def _is_silent(self) -> bool:
        waiting = self._sending or self._failures > 0
        return waiting and time.monotonic() - self._sign > self._patience

    def _warn(self) -> None:
        with self._printing:
            if not self._warned:
                silence = TimeoutError(f"no answer for {self._patience:.0f} s")
                print(
                    connection.unreachable_warning(self._failure or silence),
                    file=sys.stderr,
                    flush=True,
                )
            self._warned = True


def own_card(cards: list[Any]) -> list[Any]:
    """Of NVML's handles of all cards, that of the training's: others may train on the rest.

    The first that CUDA_VISIBLE_DEVICES names, by its place or by the beginning of its UUID, else
    the first of all. None where it names none that is known here.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first.isdecimal():
        return cards[int(first) :][:1]
    if not first.startswith("GPU-"):
        return []
    # A card that falls off the bus says no more who it is, and stops no training.
    with suppress(gpu_monitor.pynvml.NVMLError):
        uuids = [gpu_monitor.pynvml.nvmlDeviceGetUUID(card) for card in cards]
        return [card for card, uuid in zip(cards, uuids, strict=True) if uuid.startswith(first)][:1]
    return []


if __name__ == "__main__":
    sys.exit(main())
