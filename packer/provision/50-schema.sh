#!/usr/bin/env bash
# The empty schema as SQL, made by the very containers of this image, so that a first boot need not
# run all of MLflow's migrations. Never a data directory: its identity must differ per machine.
set -euo pipefail

bake=${BAKE_DIR:-/var/tmp/bake}

share=/usr/share/mlflow-bakery
environment=$bake/schema-environment.json
compose=(docker compose --file "$share/compose/compose.yaml" --env-file /run/mlflow-bakery/compose.env)

clean() {
    "${compose[@]}" down --volumes --timeout 20 || true
    rm -rf /run/mlflow-bakery /var/lib/mlflow-spool "$environment"
    find /var/lib/mlflow-data -mindepth 1 -delete
}

(
    umask 077
    cat >"$environment" <<'JSON'
{"schema": 1, "serial": 1, "deployment": "bake", "hostname": "bake.invalid",
 "data_disk": {"uuid": "00000000-0000-0000-0000-000000000000", "first": true},
 "users": {}, "mysql": {"user": "mlflow", "password": null},
 "storage": {"account": "bake", "container": "bake", "key": "", "blob_endpoint": null},
 "tls": {"certificate": "", "key": ""}, "acme": null}
JSON
)
trap clean EXIT
/usr/lib/mlflow-bakery/prepare --environment "$environment"

"${compose[@]}" up --detach --no-build --pull never mysql
"${compose[@]}" run --rm --no-deps migrate bake
install -m 0644 /run/mlflow-bakery/migration/done "$share/schema.json"
"${compose[@]}" exec --no-TTY mysql mysqldump --defaults-file=/run/secrets/client.cnf \
    --single-transaction --routines --triggers --no-tablespaces --skip-comments --loose-masking-policies=0 \
    --skip-add-drop-table --skip-add-locks --set-gtid-purged=OFF mlflow >"$share/schema.sql"
grep -q 'CREATE TABLE .alembic_version.' "$share/schema.sql"
chmod 0644 "$share/schema.sql"
