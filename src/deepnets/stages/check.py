"""Check params.yaml as a whole, before any stage with work to do is started by it.

DVC puts the names in params.yaml into the command lines of its stages, and removes what a stage
wrote before it starts the stage again. A mistake in the file must have been found by then.
"""

from deepnets import files, params, project


def main() -> None:
    """Write data/params-checked.txt, the same whatever params.yaml says, if it is valid."""
    study = params.load()
    files.write_text(project.CHECKED, f"{params.FILE} is valid\n")
    print(f"{params.FILE} is valid: {len(study.runs)} runs")
