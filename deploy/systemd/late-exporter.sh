#!/bin/sh
# Run late-exporter as the service does: its user, its key, its options and its state. Installed as
# /usr/local/bin/late-exporter, for root. The service may run or not. Files are read and written in
# /var/lib/late-exporter, so use "-" and the shell for files elsewhere.
set -eu

if [ "$(id -u)" -ne 0 ]; then
    echo "late-exporter: only root can read the key of the service: use sudo late-exporter" >&2
    exit 2
fi
if [ -t 0 ] && [ -t 1 ]; then terminal=--pty; else terminal=--pipe; fi

# systemd replaces "$$" by "$", and the shell of the unit expands the variables.
# shellcheck disable=SC2016
exec systemd-run --quiet --collect --wait "$terminal" \
    --property=DynamicUser=yes --property=User=late-exporter \
    --property=StateDirectory=late-exporter --property=StateDirectoryMode=0700 --property=UMask=0077 \
    --property=WorkingDirectory=/var/lib/late-exporter \
    --property=EnvironmentFile=-/etc/late-exporter/late-exporter.env \
    --property=LoadCredential=late-api-key:/etc/late-exporter/late-api-key \
    /bin/sh -c 'ZERNIO_API_KEY_FILE="$${ZERNIO_API_KEY_FILE-$$CREDENTIALS_DIRECTORY/late-api-key}"
        export ZERNIO_API_KEY_FILE
        exec /opt/late-exporter/bin/late-exporter "$$@"' late-exporter "$@"
