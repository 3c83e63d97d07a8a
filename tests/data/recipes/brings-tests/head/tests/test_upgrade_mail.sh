#!/bin/sh
echo looking for a mail server
echo there is no mail server in this test
exit 77
