//! What the nodes are: MariaDB, or MySQL itself. All that the two name differently is here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that the nodes run.
#[derive(Clone)]
pub enum Server {
    /// MariaDB, from PATH.
    MariaDb,
    /// MySQL, by its path.
    MySql(PathBuf),
}

/// What both understand. The kernel's rings for asynchronous I/O are few: six nodes at once were seen to get none.
const OPTIONS: [&str; 5] = [
    "--user=root",
    "--innodb-use-native-aio=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=16M",
    "--skip-name-resolve",
];

impl Server {
    /// Whether it is MySQL.
    pub fn is_mysql(&self) -> bool {
        matches!(self, Self::MySql(_))
    }

    /// What it calls itself, such as `MySQL 9.7.4`.
    pub fn version(&self) -> String {
        let (name, program) = match self {
            Self::MariaDb => ("MariaDB", Path::new("mariadbd")),
            Self::MySql(mysqld) => ("MySQL", mysqld.as_path()),
        };
        // MariaDB's goes on with its own name and the distribution's.
        let version = super::process::version(program);
        format!("{name} {}", version.split('-').next().unwrap_or_default())
    }

    /// What makes an empty data directory, with a root that has no password.
    pub fn installer(&self, data: &Path) -> Command {
        let data = format!("--datadir={}", data.display());
        match self {
            Self::MariaDb => {
                let mut command = Command::new("mariadb-install-db");
                command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                command.args([&data, OPTIONS[0], OPTIONS[1]]);
                command
            }
            Self::MySql(mysqld) => {
                let mut command = Command::new(mysqld);
                command.args(["--no-defaults", "--initialize-insecure", &data]).args(OPTIONS);
                command
            }
        }
    }

    /// The program of a node.
    pub fn program(&self) -> PathBuf {
        match self {
            Self::MariaDb => "mariadbd".into(),
            Self::MySql(mysqld) => mysqld.clone(),
        }
    }

    /// Its options, but for those that differ from node to node.
    pub fn options(&self) -> impl Iterator<Item = &'static str> {
        let own: &[&str] = match self {
            Self::MariaDb => &["--log-bin=binlog", "--log-slave-updates", "--slave-net-timeout=4"],
            Self::MySql(_) => &[
                "--log-bin=binlog",
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--replica-net-timeout=4",
                "--mysqlx=OFF",
                "--performance-schema-instrument=%=OFF",
            ],
        };
        ["--no-defaults"].into_iter().chain(OPTIONS).chain(own.iter().copied())
    }

    /// Orchestrator's user, with what it needs.
    pub fn orchestrators_user(&self) -> &'static str {
        match self {
            Self::MariaDb => {
                "create user orc@'%' identified by 'orc'; grant super, process, replication slave, replication client, \
                 reload, slave monitor, replication slave admin, read only admin, binlog monitor, binlog admin, \
                 replication master admin, select on *.* to orc@'%'; "
            }
            Self::MySql(_) => "create user orc@'%' identified by 'orc'; grant all on *.* to orc@'%'; ",
        }
    }

    /// The user of ProxySQL's monitor.
    pub fn monitors_user(&self) -> &'static str {
        match self {
            Self::MariaDb => {
                "create user monitor@'%' identified by 'monitor'; \
                 grant replication client, slave monitor on *.* to monitor@'%'; "
            }
            Self::MySql(_) => {
                "create user monitor@'%' identified by 'monitor'; grant replication client on *.* to monitor@'%'; "
            }
        }
    }

    /// The account that makes nodes read-only, as docs/security.md grants it.
    pub fn stonith_user(&self) -> &'static str {
        match self {
            Self::MariaDb => {
                "create user stonith@'%' identified by 'node-secret'; \
                 grant process, connection admin, read_only admin on *.* to stonith@'%'; "
            }
            Self::MySql(_) => {
                "create user stonith@'%' identified by 'node-secret'; \
                 grant process, connection_admin, system_variables_admin, system_user on *.* to stonith@'%'; "
            }
        }
    }

    /// What takes away what it needs most.
    pub fn take_from_stonith_user(&self) -> &'static str {
        match self {
            Self::MariaDb => "revoke read_only admin on *.* from stonith@'%'",
            Self::MySql(_) => "revoke system_variables_admin on *.* from stonith@'%'",
        }
    }

    /// Makes a read-only replica of the node that it is said on. MySQL finds the position by itself.
    pub fn replicate(&self, host: &str, port: u16, position: &str) -> String {
        match self {
            Self::MariaDb => format!(
                "stop slave; set global read_only=1; change master to master_host='{host}', master_port={port}, \
                 master_user='repl', master_password='repl', master_use_gtid={position}, master_connect_retry=1; \
                 start slave"
            ),
            Self::MySql(_) => format!(
                "stop replica; set global super_read_only=1; change replication source to source_host='{host}', \
                 source_port={port}, source_user='repl', source_password='repl', source_auto_position=1, \
                 source_connect_retry=1, get_source_public_key=1; start replica"
            ),
        }
    }
}
