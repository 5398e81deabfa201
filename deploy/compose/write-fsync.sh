#!/bin/sh
# Have SeaweedFS write each PUT to disk before it answers, which is not its default. Runs beside the server, in its
# network; the filer stores the setting. Retries for a minute, because the server's parts need time to connect.
set -eu
master=${1:-127.0.0.1:9333.19333}
filer=${2:-127.0.0.1:8888.18888}
tries=30
while [ "$tries" -gt 0 ]; do
  answer=$(echo 'fs.configure -locationPrefix=/buckets/ -fsync=true -apply' \
    | timeout 20 weed shell "-master=$master" "-filer=$filer" 2>&1) || true
  case $answer in
    *'"fsync":  true'*) exit 0 ;;
  esac
  tries=$((tries - 1))
  sleep 2
done
printf 'SeaweedFS did not agree to write every object to disk; nothing was stored yet.\n%s\n' "$answer" >&2
exit 1
