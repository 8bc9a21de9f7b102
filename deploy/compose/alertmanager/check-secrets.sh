#!/bin/sh
# Fail if a receiver of a route lacks a secret, because Alertmanager would start, and drop each of its messages with no more
# than a line in its log. It reads the layout of the example: one file per line.
#
# Usage: check-secrets.sh [ALERTMANAGER.YML]
set -eu
config=${1:-/etc/alertmanager/alertmanager.yml}

missing=$(
  awk '
    function need(file) {
      if (file != "")
        files[receiver] = files[receiver] " " file
    }

    /^ *#/ { next }
    { gsub(/["\047]/, "") } # quotes
    /^[a-z]/ { section = $1 }

    section == "global:" && $1 ~ /_file:$/ { shared[$1] = $2 }
    section == "route:" && $1 == "receiver:" { used[$2] }
    section == "route:" && $2 == "receiver:" { used[$3] }

    section != "receivers:" { next }
    $2 == "name:" { receiver = $3 }
    $1 == "slack_configs:" { need(shared["slack_api_url_file:"]) }
    $1 == "opsgenie_configs:" { need(shared["opsgenie_api_key_file:"]) }
    $1 == "email_configs:" { need(shared["smtp_auth_password_file:"]) }
    $1 ~ /_file:$/ { need($2) }
    $2 ~ /_file:$/ { need($3) }

    END {
      for (receiver in used) {
        count = split(files[receiver], names, " ")
        for (number = 1; number <= count; number++)
          print receiver, names[number]
      }
    }
  ' "$config" | sort -u |
    while read -r receiver file; do
      if [ ! -r "$file" ] || [ ! -s "$file" ]; then
        echo "Receiver $receiver: $file is missing, empty, or not readable by user $(id -u)."
      fi
    done
)

if [ -n "$missing" ]; then
  echo "$missing"
  echo "Write these files to deploy/alertmanager/secrets, or choose other receivers in deploy/alertmanager/alertmanager.yml."
  exit 1
fi >&2
