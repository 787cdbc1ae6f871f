#!/usr/bin/env bash
# Trains whatever is due in studies on a machine that need have neither DVC nor MLflow, many trainings
# at a time, and packs what they come to, for `deepnets adopt` at home (docs/gpu.md):
#     bash docs/gpu.sh RESULTS.tgz STUDY...
# in the root of a checkout. Stopped at any time it packs what there is; the same command goes on.
# Models and probabilities stay, since they are large.
set -euo pipefail

(($# >= 2)) || { grep '^#     ' "$0" >&2; exit 2; }
results=$(realpath -m "$1")
shift
for study; do
    [[ -f $study/params.yaml ]] || { echo "$study is no study: it has no params.yaml" >&2; exit 2; }
done

pack() {
    local found
    found=$(for study; do find "$study/metrics" "$study/trainings" -maxdepth 0 2>/dev/null || true; done)
    [[ -z $found ]] || tar czf "$results" --exclude='*.keras' --exclude='*.np[yz]' $found
}
trap 'pack "$@"' EXIT

status=0
for study; do
    python3 -m deepnets grid "$study" || status=$?
    ((status != 130)) || break
    rows=$(cd "$study" &&
        python3 -c 'from deepnets.config import params; print(*params.load().diagnose.runs)')
    for row in $rows; do
        # Here, since it looks at the models.
        [[ -f $study/metrics/$row/test.json ]] || continue
        (cd "$study" && python3 -m deepnets diagnose "$row") || status=$?
    done
done
exit $status
