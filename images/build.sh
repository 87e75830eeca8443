#!/bin/sh
# Builds the images with docker, or buildah where that is: selfalign-{operator,generate,train}:VERSION.
#   CPU=1         generate and train for clusters without GPUs
#   BASE=NAME     in place of python:3.11-slim-bookworm; a Debian with python3 3.11 and its venv module
#   PREFIX=NAME   such as registry.example/team/; unset: localhost/, as the chart's values have it
#   IMAGES=...    only these: IMAGES=operator
#   OPTIONS=...   more options of `build`, such as --build-arg=PIP_CERT=FILE --volume=FOLDER:FOLDER:ro
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' crds/selfalign_api/__init__.py)
revision=$(git rev-parse HEAD)
if command -v docker >/dev/null; then
  build="docker build"
elif command -v buildah >/dev/null; then
  build="buildah bud --layers"
else
  echo "neither docker nor buildah is here: apt-get install buildah" >&2
  exit 1
fi
for image in ${IMAGES:-operator generate train}; do
  set -- --build-arg=VERSION="$version" --build-arg=REVISION="$revision"
  [ -z "${BASE:-}" ] || set -- "$@" --build-arg=BASE="$BASE"
  [ -z "${CPU:-}" ] || [ "$image" = operator ] || set -- "$@" --build-arg=LOCK="requirements/$image-cpu.txt"
  $build ${OPTIONS:-} "$@" --file "images/$image/Dockerfile" --tag "${PREFIX:-localhost/}selfalign-$image:$version" .
done
