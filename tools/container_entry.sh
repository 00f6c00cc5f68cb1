#!/bin/sh
# The entry of the container: simfrcnn with the words that are given. mercure gives a module none, but
# names its folders; then the DICOM files in MERCURE_IN_DIR are judged, and the results as DICOM are
# put into MERCURE_OUT_DIR. Settings of the module: SIMFRCNN_WEIGHTS (a file in a mounted folder, or a
# model that comes with simfrcnn), SIMFRCNN_DICOM (kinds of results; sr).
set -eu
if [ "$#" -gt 0 ] || [ -z "${MERCURE_IN_DIR:-}" ]; then
    exec simfrcnn "$@"
fi
: "${MERCURE_OUT_DIR:?is not set: mercure sets it beside MERCURE_IN_DIR}"
: "${SIMFRCNN_WEIGHTS:?is not set: give it in the settings of the module, such as cbis-mass}"
work=$(mktemp -d)
child=
trap 'rm -rf "$work"' EXIT
trap '[ -z "$child" ] || kill "$child"; wait; exit 143' TERM INT

simfrcnn predict "$MERCURE_IN_DIR" --weights "$SIMFRCNN_WEIGHTS" --output "$work/out" \
    --keep-identifiers --pictures none --dicom "${SIMFRCNN_DICOM:-sr}" &
child=$!
code=0
wait "$child" || code=$?
child=
# 3: some files could not be judged. The results of the others say so, and count, if there are any.
if [ "$code" -ne 0 ] && [ "$code" -ne 3 ]; then
    exit "$code"
fi
if [ -z "$(find "$work/out" -name '*.dcm' | head -n 1)" ]; then
    echo "no result: see above for what could not be judged" >&2
    exit 3
fi
find "$work/out" -name '*.dcm' -exec sh -e -c '
    for file do
        cp "$file" "$0/.$(basename "$file").part"
        mv "$0/.$(basename "$file").part" "$0/$(basename "$(dirname "$file")")_$(basename "$file")"
    done' "$MERCURE_OUT_DIR" {} +
