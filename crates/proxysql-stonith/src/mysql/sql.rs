//! Every statement to a node. None makes it writable.

/// Which server it is.
pub const VERSION: &str = "SELECT VERSION()";

/// A set that running statements hold up is given up after this. A second is the least that MySQL knows.
pub const WAIT_SHORTLY: &str = "SET SESSION lock_wait_timeout=1";

/// What the account may do.
pub const GRANTS: &str = "SHOW GRANTS";

/// Who the server is, and what time it has.
pub const IDENTITY: &str = "SELECT @@GLOBAL.server_id,@@hostname,@@port,UNIX_TIMESTAMP()";

/// How long it has been up, s.
pub const UPTIME: &str = "SHOW GLOBAL STATUS LIKE 'Uptime'";

/// Whether MySQL takes writes from nobody.
pub const MYSQL_READ_ONLY: &str = "SELECT @@GLOBAL.read_only,@@GLOBAL.super_read_only";

/// Whether MariaDB takes writes from nobody but administrators.
pub const MARIADB_READ_ONLY: &str = "SELECT @@GLOBAL.read_only";

/// MySQL: administrators may not write either. It sets `read_only` too.
pub const SET_MYSQL: &str = "SET GLOBAL super_read_only=ON";

/// MariaDB up to 11: accounts with READ ONLY ADMIN may write.
pub const SET_MARIADB: &str = "SET GLOBAL read_only=ON";

/// MariaDB from 12: nobody may write.
pub const SET_MARIADB_12: &str = "SET GLOBAL read_only='NO_LOCK_NO_ADMIN'";

/// Takes the lock that agents have in common, without waiting.
pub const TAKE_LOCK: &str = "SELECT GET_LOCK('proxysql-stonith',0)";

/// All threads. It is shortened where a statement is long, and it takes no table's lock.
pub const SESSIONS: &str = "SHOW PROCESSLIST";

/// Ends one session.
pub fn kill(id: u64) -> String {
    format!("KILL CONNECTION {id}")
}
