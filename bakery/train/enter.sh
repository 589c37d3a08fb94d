#!/bin/sh
# The start of a container that trains: reads the login from its standard input, so that it is in no
# argument and in nothing that Docker keeps of the container.
set -eu
IFS= read -r MLFLOW_TRACKING_USERNAME
IFS= read -r MLFLOW_TRACKING_PASSWORD
export MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD
# Libraries keep caches there; the user of an image need not have one.
[ -w "${HOME:-/}" ] || export HOME=/tmp
exec "$@" </dev/null
