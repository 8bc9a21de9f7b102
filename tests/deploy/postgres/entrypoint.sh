#!/bin/sh
# Create the cluster, the user and the database at the first start, then run the server.
set -eu

data=/var/lib/postgresql/data
programs=$(echo /usr/lib/postgresql/*/bin)
if [ ! -s $data/PG_VERSION ]; then
  "$programs/initdb" --pgdata=$data --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256
  echo "host all all all scram-sha-256" >>$data/pg_hba.conf
  echo "CREATE DATABASE \"$POSTGRES_USER\" ENCODING 'UTF8' TEMPLATE template0" | "$programs/postgres" --single -D $data postgres
fi
exec "$programs/postgres" -D $data -c listen_addresses='*'
