"""Check params.yaml as a whole, before any stage with work to do is started by it.

DVC puts the names in params.yaml into the command lines of its stages, and removes what a stage
wrote before it starts the stage again. A mistake in the file must have been found by then; so must
a folder that DVC takes nothing from.

It also says, a file a row and a file a starting point, what params.yaml comes to for each. Stages
depend on these files, since DVC cannot follow a row to a recipe of its own, and refuses to depend
on a section that a params.yaml may leave out.
"""

import shutil
from pathlib import Path

from deepnets.base import files, project
from deepnets.config import params


def main() -> None:
    """Write data/params-checked.txt, the same whatever params.yaml says, and data/params."""
    study = params.load()
    files.require_no_links(Path())
    shutil.rmtree(project.RESOLVED, ignore_errors=True)
    for name in study.runs:
        runs = [study.run_params(name, seed).flat for seed in study.train.seeds]
        files.write_json(project.RESOLVED / "runs" / f"{name}.json", runs)
    for start in study.initialize:
        described = study.starting_weights.get(start.partition("-")[2])
        content = described.model_dump() if described else None
        files.write_json(project.RESOLVED / "weights" / f"{start}.json", content)
    files.write_text(project.CHECKED, f"{params.FILE} is valid\n")
    print(f"{params.FILE} is valid: {len(study.runs)} runs")
