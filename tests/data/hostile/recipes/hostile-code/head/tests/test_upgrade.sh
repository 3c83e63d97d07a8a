#!/bin/sh
. /recipe/tests/probe.sh
exit 1
