"""A Ray cluster: trainings as tasks on its nodes, whose results come home as they are made.

Ray places them, and no more. A training whose node or worker dies is placed again, and goes on from
the newest checkpoint that has come home. Needs the package ray, which `make ray` adds.
"""

import io
import json
import logging
import os
import socket
import tarfile
from pathlib import Path
from typing import Any

from deepnets.base import files, project
from deepnets.base.errors import UserError, one_line
from deepnets.config.params import Params
from deepnets.grid import gpus, ray_task, training
from deepnets.grid.due import Training
from deepnets.grid.places import End
from deepnets.grid.training import Progress
from deepnets.networks import runtime
from deepnets.records import machine, provenance
from deepnets.tracking import live
from deepnets.training import checkpoints

# Of a node: a core each, as on one machine; and how many trainings share a GPU of 16 GiB or more.
_CORES, _BESIDE = 1, 4

# How often in a row a training is placed again without having finished an epoch meanwhile.
_ATTEMPTS = 3

# Seconds between two checkpoints of a training that come home, and for each that runs at a time:
# a dying node costs as much, and all of a large cluster together send about 100 MB a second, of
# checkpoints of 100 to 280 MB each. See docs/grid.md.
_SECONDS, _SECONDS_EACH = 30.0, 2.0

# Of the user's, what trainings on nodes are given.
_FORWARDED = ("KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS")


class OnRay:
    """The nodes of a cluster.

    Args:
        study: the one at hand.
        trainings: what is to be done, for what the nodes need.
        jobs: how many at a time; None for as many as the cluster carries.
        address: of the cluster; None for the one that this machine is part of.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """

    def __init__(
        self, study: Params, trainings: list[Training], jobs: int | None, address: str | None
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "--on ray needs Ray, which is not installed here: run `make ray`"
            ) from None
        self._ray, self._study, self._jobs = ray, study, jobs
        try:
            if address is not None:
                _require_listener(address)  # Ray itself would end this process
            ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"no Ray cluster at {address or 'this machine'} ({one_line(error, 100)}): start "
                "one with `ray start --head`, or name it with --address HOST:PORT"
            ) from None
        ray.cloudpickle.register_pickle_by_value(ray_task)
        on_gpus = ray.cluster_resources().get("GPU", 0) > 0
        self._needs: dict[str, float] = {"num_cpus": _CORES}
        if on_gpus:
            self._needs["num_gpus"] = 1 / _BESIDE
        task = ray.remote(ray_task.train)
        # What Ray would try again begins anew; here it goes on.
        self._task = task.options(max_retries=0, **self._needs)
        self._bundle = ray.put(bundle(study, trainings))
        self._environment = _environment(on_gpus)
        self._libraries = machine.training_versions()

    def describe(self) -> str:
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return f"{self.capacity()} at a time on a Ray cluster of {len(nodes)} nodes"

    def capacity(self) -> int:
        there = self._ray.cluster_resources()
        carried = int(there.get("CPU", 0) / self._needs["num_cpus"])
        if "num_gpus" in self._needs:
            carried = min(carried, int(there.get("GPU", 0) / self._needs["num_gpus"]))
        return max(1, min(carried, self._jobs or carried))

    def start(self, waiting: list[Training]) -> "Placed":
        return Placed(self, self._study, waiting.pop(0))

    def close(self) -> None:
        self._ray.shutdown()

    def place(self, done: Training) -> Any:
        """Have Ray place a training, which goes on from what is at home; returns what it sends."""
        paths = training.files_of(self._study, done.name, done.seed)
        folder = Path("checkpoints") / done.name / f"seed-{done.seed}"
        order = ray_task.Order(
            name=done.name,
            seed=done.seed,
            study=_study_in_root().as_posix(),
            checkpoints=folder.as_posix(),
            results=paths.metrics_dir.as_posix(),
            libraries=self._libraries,
            environment=self._environment,
            seconds=max(_SECONDS, _SECONDS_EACH * self.capacity()),
            older=done.run.keep != "last",
        )
        if order.older:
            # All that came home are here, and of the best epochs one is needed.
            for of_training in folder.glob("*/"):
                if newest := checkpoints.latest(of_training, with_best=True):
                    checkpoints.drop_older(of_training, newest.history, keep_best=True)
        begun = ray_task.read_changed_files(Path(), folder.as_posix(), {}, older=order.older)
        return self._task.remote(self._bundle, begun, order)

    def next_sent(self, sending: Any) -> ray_task.Sent | None:
        """The next that a training has sent, if there is any.

        Raises:
            StopIteration: it has sent everything.
            ray.exceptions.RayError: its node or worker has died, or what it sent is lost.
        """
        ready, _ = self._ray.wait([sending], timeout=0)
        return self._ray.get(next(sending)) if ready else None

    def cancel(self, sending: Any) -> None:
        """Have a training stop."""
        self._ray.cancel(sending, force=False)

    @property
    def lost(self) -> type[Exception]:
        """What is raised where a node, a worker or what it sent is lost."""
        return self._ray.exceptions.RayError  # type: ignore[no-any-return]


class Placed:
    """A training somewhere on a cluster."""

    def __init__(self, cluster: OnRay, study: Params, training_: Training) -> None:
        self.training, self.place = training_, "the cluster"
        self._cluster = cluster
        self._paths = training.files_of(study, training_.name, training_.seed)
        self._attempts, self._epochs = 0, self._checkpoints_here()
        training.progress_of(self._paths).unlink(missing_ok=True)
        self._sending = cluster.place(training_)
        self._ended: End | None = None

    def end(self) -> End | None:
        while self._ended is None:
            try:
                sent = self._cluster.next_sent(self._sending)
            except StopIteration:
                self._ended = End(True, "its task ended without a word")
                break
            except self._cluster.lost as error:
                self._place_again(error)
                continue
            if sent is None:
                break
            self._receive(sent)
        return self._ended

    def progress(self) -> Progress | None:
        return training.read_progress(self._paths)

    def interrupt(self) -> None:
        self._cluster.cancel(self._sending)

    def stop(self) -> None:
        """Ray ends it with this command, if it has not ended by itself."""

    def _receive(self, sent: ray_task.Sent) -> None:
        self.place = sent.host
        for name, content in sent.files.items():
            path = Path(name)
            if path.is_absolute() or ".." in path.parts:
                raise UserError(
                    f"{self.training}: {sent.host} sent a file for {name}: expected none"
                )
            files.write_bytes(path, content)
            # Among all that came home is the best epoch's, which it goes on from as well.
            if path.match("epoch-*.npz") and self.training.run.keep == "last":
                for older in sorted(path.parent.glob("epoch-*.npz"))[:-2]:
                    older.unlink()
        if sent.status is not None:
            self._ended = End(sent.status != 0, training.last_words(self._paths, sent.status))

    def _place_again(self, error: Exception) -> None:
        """Place it again, unless that has not helped several times in a row."""
        epochs = self._checkpoints_here()
        self._attempts = 1 if epochs - self._epochs else self._attempts + 1
        self._epochs = epochs
        if self._attempts > _ATTEMPTS:
            said = one_line(error, 200)
            self._ended = End(True, f"its node died {self._attempts} times in a row: {said}")
            return
        self.place = "the cluster, again"
        self._sending = self._cluster.place(self.training)

    def _checkpoints_here(self) -> set[Path]:
        """The checkpoints that are here, those of other parameters or code among them."""
        folder = Path("checkpoints") / self.training.name / f"seed-{self.training.seed}"
        return set(folder.glob("*/epoch-*.npz"))


def bundle(study: Params, trainings: list[Training]) -> bytes:
    """The project as `trainings` need it, packed: code, parameters, data and starting weights."""
    root, here = project.root(), Path.cwd()
    starts = {study.entry(done.name).start for done in trainings}
    content = [
        root / "MLproject",
        here / "params.yaml",
        *sorted(here.glob("data/processed/*")),
        *(
            path
            for start in sorted(starts)
            for path in sorted((here / project.STARTS / start).glob("*"))
        ),
    ]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for path in content:
            if path.is_file():
                archive.add(path, path.relative_to(root).as_posix(), recursive=False)
        for path in sorted(provenance.PACKAGE.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                name = Path("src/deepnets") / path.relative_to(provenance.PACKAGE)
                archive.add(path, name.as_posix(), recursive=False)
        # Git's folder stays here; what it says of the code goes along.
        said = json.dumps(provenance.git_state()).encode()
        note = tarfile.TarInfo(provenance.SOURCES)
        note.size = len(said)
        archive.addfile(note, io.BytesIO(said))
    return packed.getvalue()


def _study_in_root() -> Path:
    here, root = Path.cwd(), project.root()
    return here.relative_to(root) if here.is_relative_to(root) else Path()


def _require_listener(address: str) -> None:
    """Find out whether anybody answers at HOST:PORT.

    Raises:
        OSError: nobody does.
        ValueError: that is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("expected HOST:PORT")
    socket.create_connection((host, int(port)), timeout=5).close()


def _environment(on_gpus: bool) -> dict[str, str]:
    """What a training on a node is given besides what is set there."""
    chosen = {runtime.CORES: str(_CORES), "OMP_NUM_THREADS": str(_CORES)}
    if on_gpus:
        chosen = gpus.share_of_memory(_BESIDE)
    chosen |= {key: os.environ[key] for key in _FORWARDED if key in os.environ}
    if project.tracking_uri().startswith("http"):
        chosen |= {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_")}
    else:
        # A file at home cannot be reached from there; `publish` follows at the end.
        chosen[live.UNFOLLOWED] = "1"
    return chosen | {runtime.SET_BY_GRID: ",".join(chosen)}
