"""What tracking costs a training step: medgan's buffer against MLflow's own calls, on SQLite, measured in one run.

Each way logs eight metrics per step. "waits" is how long the training thread waits in the step. "processor" is all the
processor time until everything is in the store; delivery holds Python's global lock no longer than that, so it bounds
how much a training can be slowed, and it hardly depends on what else the machine does.

Run: python benchmarks/tracking_overhead.py [--steps 1000] [--step-ms 50]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from medgan.tracking import start_run
from medgan.tracking.connection import connected, mlflow
from medgan.tracking.store import sqlite_uri

METRICS = {f"loss/part_{index}": 0.125 * index for index in range(8)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="steps per measurement")
    parser.add_argument(
        "--step-ms", type=float, default=50.0, help="length of the training step that the share refers to"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        buffered = _buffered(Path(folder) / "runs" / "buffered", options.steps)
        uri = sqlite_uri(Path(folder) / "runs" / "mlflow.db")
        direct = _direct(uri, options.steps, synchronous=True)
        asynchronous = _direct(uri, options.steps, synchronous=False)
        print(f"{'per step of 8 metrics':32}{'waits':>11}{'processor':>13}{f'of a {options.step_ms:g} ms step':>18}")
        for name, (waits, processor) in {
            "medgan buffer": buffered,
            "MlflowClient.log_batch": direct,
            "log_batch(synchronous=False)": asynchronous,
        }.items():
            share = 100 * processor / (options.step_ms / 1e3)
            print(f"{name:32}{1e3 * waits:8.3f} ms{1e3 * processor:10.3f} ms{share:16.2f} %")
        print(f"direct / buffered: {direct[0] / buffered[0]:.0f} x waiting, {direct[1] / buffered[1]:.1f} x processor")


def _buffered(folder: Path, steps: int) -> tuple[float, float]:
    """Seconds per step that the training thread waits, and of processor time until all is stored."""
    tracker = start_run(experiment="benchmark", name="buffered", folder=folder, params={}, tags={})
    tracker.log_metrics(METRICS, 0)
    tracker.flush()
    start, processor = time.perf_counter(), time.process_time()
    for step in range(1, steps + 1):
        tracker.log_metrics(METRICS, step)
    waits = time.perf_counter() - start
    tracker.flush()
    processor = time.process_time() - processor
    tracker.finish()
    return waits / steps, processor / steps


def _direct(uri: str, steps: int, *, synchronous: bool) -> tuple[float, float]:
    """The same for one `log_batch` per step."""
    client, metric = connected(uri), mlflow("entities").Metric
    run_id = client.create_run(client.get_experiment_by_name("benchmark").experiment_id).info.run_id
    operations = []
    start, processor = time.perf_counter(), time.process_time()
    for step in range(1, steps + 1):
        now = time.time_ns() // 1_000_000
        points = [metric(key, value, now, step) for key, value in METRICS.items()]
        operations.append(client.log_batch(run_id, metrics=points, synchronous=synchronous))
    waits = time.perf_counter() - start
    for operation in operations:
        if operation is not None:
            operation.wait()
    processor = time.process_time() - processor
    client.set_terminated(run_id)
    return waits / steps, processor / steps


if __name__ == "__main__":
    main()
