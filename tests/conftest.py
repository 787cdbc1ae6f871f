"""What all tests share: a framework that is set up as in the stages, and no outside influence."""

import os

for _variable in list(os.environ):
    if _variable.startswith(("MLFLOW_", "DEEPNETS_")):
        del os.environ[_variable]

from deepnets import runtime  # noqa: E402

runtime.start_framework()
