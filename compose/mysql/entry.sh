#!/bin/sh
# Starts MySQL with the given options; makes its data directory before the first start. The directory is made under another
# name and renamed when it is whole, so a kill at any moment leaves either nothing or all of it.
set -eu

base=/var/lib/mysql
data=$base/data
unfinished=$base/data.unfinished
config=/opt/mlflow-bakery/my.cnf

rm -rf "$base/tmp"
mkdir -m 0700 "$base/tmp"

# A restored data directory that is whole takes the place of the one before, however often a kill
# comes in between.
if [ -d "$data.restored" ]; then
    echo "serving the restored data from now on"
    if [ -d "$data" ]; then
        rm -rf "$data.replaced"
        mv "$data" "$data.replaced"
    fi
    mv "$data.restored" "$data"
    sync
fi

if [ ! -d "$data" ]; then
    echo "making the data directory"
    rm -rf "$unfinished"
    # Nothing in it is worth a flush before it is whole: sync makes it durable at once, then.
    mysqld --defaults-file="$config" --initialize-insecure --datadir="$unfinished" \
        --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=OFF
    sync
    mv "$unfinished" "$data"
    sync
fi

# The init file creates the schema and the account and sets the current password, at each start.
exec mysqld --defaults-file="$config" --datadir="$data" --init-file=/run/secrets/init.sql "$@"
