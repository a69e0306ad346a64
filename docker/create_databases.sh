#!/bin/bash
# Run once by the postgres image on an empty volume: one database each, owned by one role.
set -euo pipefail
for name in mlflow millrace feast; do
    psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -c "CREATE DATABASE $name"
done
