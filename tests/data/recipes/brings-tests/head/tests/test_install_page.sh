#!/bin/sh -eu
# The app is reached by its address, and by nothing else.
curl -fsS -m 20 -o /dev/null "$APP_URL/"
[ "$TIER" = install ]
