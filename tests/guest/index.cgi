#!/bin/sh
# index.cgi is the demo guest's page: who answers, and by which address.
printf 'Content-Type: text/plain\r\n\r\n'
address=$(ip -o address show scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
echo "hello from $(hostname) at ${address:-no address}"
