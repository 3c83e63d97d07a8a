. /recipe/tests/probe.sh
