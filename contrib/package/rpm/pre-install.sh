getent group proxysql-stonith >/dev/null || groupadd -r proxysql-stonith
getent passwd proxysql-stonith >/dev/null ||
    useradd -r -g proxysql-stonith -d /var/lib/proxysql-stonith -M -s /sbin/nologin -c "proxysql-stonith" proxysql-stonith
exit 0
