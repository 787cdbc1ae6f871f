# Sourced by `mlflow run`: `conda activate NAME` puts the environment it was started from first.
conda() {
    PATH="$DEEPNETS_ENVIRONMENT/bin:$PATH"
    export PATH
}
