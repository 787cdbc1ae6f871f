"""What a grid on Ray carries: many trainings that only pretend, on many nodes of this machine.

Each pretended training writes three checkpoints of some size and ends; queue, placing, the way home
and the files there are the real ones. One node is killed in the middle. Needs `make ray`.
"""

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import ray.cluster_utils

from deepnets.config import params
from deepnets.grid import on_ray, schedule
from deepnets.grid.due import Training
from deepnets.grid.places import End, Running
from deepnets.grid.schedule import Schedule

ROOT = Path(__file__).parents[1]

TRAINING = """
import os, sys, time
from pathlib import Path
name, seed, size = sys.argv[2], sys.argv[3], int(os.environ["CHECKPOINT_BYTES"])
folder = Path("checkpoints") / name / f"seed-{seed}" / "pretended"
folder.mkdir(parents=True, exist_ok=True)
for epoch in range(1 + len(list(folder.glob("*.npz"))), 4):
    (folder / f"epoch-{epoch:05d}.npz").write_bytes(os.urandom(size))
    time.sleep(0.5)
Path("trainings", name, f"seed-{seed}", "train.json").write_text("{}")
"""


class Counter(schedule.Watcher):
    """Notes the most that ran at a time, how long looks took, and kills a node half way."""

    def __init__(self, count: int, kill: Callable[[], None]) -> None:
        self.most, self.failed = 0, 0
        self.looks: list[float] = []
        self._left, self._kill, self._looked = count // 2, kill, time.perf_counter()

    def on_end(self, running: Running, end: End) -> None:
        self.failed += end.failed
        self._left -= 1
        if self._left == 0:
            self._kill()

    def on_look(self, at: Schedule) -> None:
        now = time.perf_counter()
        self.looks.append(now - self._looked)
        self._looked, self.most = now, max(self.most, len(at.running))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--cpus", type=int, default=1, help="of a node: trainings at once there")
    parser.add_argument("--megabytes", type=float, default=1.0, help="of a checkpoint")
    asked = parser.parse_args()
    size = int(asked.megabytes * 1e6)

    study = params.load(ROOT / "params.yaml")
    name = next(iter(study.runs))
    run = study.run_params(name, 0)
    due = [Training(name, run.model_copy(update={"seed": n})) for n in range(asked.trainings)]
    cluster = ray.cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=asked.cpus) for _ in range(asked.nodes)]
    on_ray.bundle = lambda *_: _bundle()
    # Every checkpoint comes home, as it would of trainings whose epochs are long.
    on_ray._SECONDS, on_ray._SECONDS_EACH = 0.4, 0.0
    with tempfile.TemporaryDirectory() as home, chdir(home):
        places = on_ray.OnRay(study, due, None, cluster.address)
        places._environment = {"CHECKPOINT_BYTES": str(size)}
        places._libraries = {}
        counter = Counter(len(due), lambda: cluster.remove_node(nodes[0], allow_graceful=False))
        started = time.perf_counter()
        ended = schedule.run(due, places, counter, lambda _: None)
        seconds = time.perf_counter() - started
        home_bytes = sum(p.stat().st_size for p in Path().rglob("*") if p.is_file())
        done = len(list(Path().glob("trainings/*/*/train.json")))
        places.close()
    cluster.shutdown()
    print(
        f"{done} of {len(ended.ended)} trainings came home, {counter.failed} failed, one of "
        f"{asked.nodes} nodes killed in the middle: {seconds:.0f} s, {done / seconds:.1f} a "
        f"second, at most {counter.most} at a time; checkpoints of {asked.megabytes:g} MB, of "
        f"which {home_bytes / 1e6:,.0f} MB are kept at home; looks at all of them took "
        f"{statistics.median(counter.looks):.1f} s, the longest {max(counter.looks):.1f} s"
    )


def _bundle() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in {"deepnets/__init__.py": "", "deepnets/__main__.py": TRAINING}.items():
            member = tarfile.TarInfo(f"src/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


if __name__ == "__main__":
    main()
