# Fences are in ProxySQL and the state is in /var/lib/proxysql-stonith: removal changes neither.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    [ "$1" -eq 0 ] || systemctl try-restart proxysql-stonith.service || :
fi
exit 0
