#!/bin/sh
# Starts MySQL; makes its data directory before the first start. The directory is made under another
# name and renamed when it is whole, so a kill at any moment leaves either nothing or all of it.
set -eu

base=/var/lib/mysql
data=$base/data
unfinished=$base/data.unfinished
config=/opt/mlflow-bakery/my.cnf

rm -rf "$base/tmp"
mkdir -m 0700 "$base/tmp"

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
exec mysqld --defaults-file="$config" --datadir="$data" --init-file=/run/secrets/init.sql
