if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now proxysql-stonith.service || :
fi
exit 0
