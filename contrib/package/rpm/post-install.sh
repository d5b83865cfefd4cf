# Only a first installation ($1 is 1) makes the password file and the state directory: an upgrade changes no owner that an
# administrator has chosen.
if [ "$1" -eq 1 ] && [ ! -e /etc/proxysql-stonith.password ]; then
    install -o root -g proxysql-stonith -m 0640 /dev/null /etc/proxysql-stonith.password
fi
if [ ! -d /var/lib/proxysql-stonith ]; then
    install -d -o proxysql-stonith -g proxysql-stonith -m 0700 /var/lib/proxysql-stonith
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    # The distribution's presets say whether a unit is enabled. It is not started: its config must be filled in first.
    [ "$1" -ne 1 ] || systemctl preset proxysql-stonith.service || :
fi
exit 0
