//! Reads what an account may do from `SHOW GRANTS`, without trying it.

use super::Kind;

/// What an account lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lacks {
    /// To list all sessions, to end them, and to set the server read-only.
    pub for_all: Vec<String>,
    /// To end the sessions of every account.
    pub for_some: Vec<String>,
}

/// MySQL from this version on lets nobody else end the sessions of an account with `SYSTEM_USER`.
const SYSTEM_USER_SINCE: (u32, u32, u32) = (8, 0, 16);

/// Reads what the account lacks.
pub(super) fn lacking(grants: &[String], kind: &Kind) -> Lacks {
    let has = |wanted: &str| grants.iter().any(|grant| global(grant).any(|held| held == wanted));
    if has("ALL PRIVILEGES") {
        return Lacks::default();
    }
    let (needed, super_is_enough): (&[&str], bool) = match kind {
        Kind::MySql { version } if *version < (8, 0, 0) => (&["SUPER"], true),
        Kind::MySql { .. } => (&["SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"], true),
        // Since then SUPER allows less and less of it.
        Kind::MariaDb { version } => (&["READ_ONLY ADMIN", "CONNECTION ADMIN"], *version < (10, 11)),
    };
    let is_super = super_is_enough && has("SUPER");
    let of_admin = needed.iter().filter(|wanted| !is_super && !has(wanted));
    let some: &[&str] = match kind {
        Kind::MySql { version } if *version >= SYSTEM_USER_SINCE => &["SYSTEM_USER"],
        _ => &[],
    };
    let lacked = |wanted: &&&str| !has(wanted);
    Lacks {
        for_all: ["PROCESS"].iter().filter(lacked).chain(of_admin).map(|lack| (*lack).to_owned()).collect(),
        for_some: some.iter().filter(lacked).map(|lack| (*lack).to_owned()).collect(),
    }
}

/// The privileges of one line that count everywhere.
fn global(grant: &str) -> impl Iterator<Item = &str> {
    let held =
        grant.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON *.* TO ")).map_or("", |(held, _)| held);
    held.split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIADB: Kind = Kind::MariaDb { version: (10, 11) };
    const MYSQL: Kind = Kind::MySql { version: (9, 7, 4) };

    fn lacks(grants: &[&str], kind: &Kind) -> Vec<String> {
        let Lacks { for_all, for_some } =
            lacking(&grants.iter().map(|grant| (*grant).to_owned()).collect::<Vec<_>>(), kind);
        [for_all, for_some].concat()
    }

    #[test]
    fn an_account_that_may_do_all_of_it_lacks_nothing() {
        let mariadb =
            "GRANT PROCESS, CONNECTION ADMIN, READ_ONLY ADMIN ON *.* TO `stonith`@`%` IDENTIFIED BY PASSWORD '*0'";
        let mysql = [
            "GRANT PROCESS ON *.* TO `s`@`%`",
            "GRANT CONNECTION_ADMIN,SYSTEM_USER,SYSTEM_VARIABLES_ADMIN ON *.* TO `s`@`%`",
        ];
        let all = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"];
        assert!(lacks(&[mariadb], &MARIADB).is_empty() && lacks(&mysql, &MYSQL).is_empty());
        assert!(lacks(&all, &MARIADB).is_empty() && lacks(&all, &MYSQL).is_empty());
        let old = ["GRANT PROCESS, SUPER ON *.* TO `s`@`%`"];
        assert!(lacks(&old, &Kind::MySql { version: (5, 7, 44) }).is_empty());
        assert!(lacks(&old, &Kind::MySql { version: (8, 0, 15) }).is_empty());
    }

    #[test]
    fn an_account_that_cannot_end_every_session_lacks_system_user_and_can_do_the_rest() {
        let found =
            lacking(&["GRANT PROCESS, SUPER ON *.* TO `s`@`%`".to_owned()], &Kind::MySql { version: (8, 0, 16) });
        assert_eq!(found, Lacks { for_all: Vec::new(), for_some: vec!["SYSTEM_USER".to_owned()] });
    }

    #[test]
    fn what_is_granted_on_one_schema_or_not_at_all_is_lacking() {
        assert_eq!(
            lacks(&["GRANT USAGE ON *.* TO `s`@`%`"], &MARIADB),
            ["PROCESS", "READ_ONLY ADMIN", "CONNECTION ADMIN"]
        );
        assert_eq!(lacks(&["GRANT ALL PRIVILEGES ON `t`.* TO `s`@`%`"], &MYSQL).len(), 4);
        assert_eq!(
            lacks(&["GRANT PROCESS, SUPER ON *.* TO `s`@`%`"], &MARIADB),
            ["READ_ONLY ADMIN", "CONNECTION ADMIN"]
        );
        assert_eq!(lacks(&["something else ON *.* TO x", ""], &MYSQL).len(), 4);
    }
}
