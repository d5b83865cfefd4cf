//! Reads what an account may do from `SHOW GRANTS`, without trying it.

use super::Kind;

/// The privileges that the account lacks: to list all sessions, to end them, and to set the server read-only.
pub(super) fn lacking(grants: &[String], kind: &Kind) -> Vec<String> {
    let has = |wanted: &str| grants.iter().any(|grant| global(grant).any(|held| held == wanted));
    if has("ALL PRIVILEGES") {
        return Vec::new();
    }
    let (needed, super_is_enough): (&[&str], bool) = match kind {
        Kind::MySql => (&["SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"], true),
        // Since then SUPER allows less and less of it.
        Kind::MariaDb { version } => (&["READ_ONLY ADMIN", "CONNECTION ADMIN"], *version < (10, 11)),
    };
    let is_super = super_is_enough && has("SUPER");
    let of_admin = needed.iter().filter(|wanted| !is_super && !has(wanted));
    ["PROCESS"].iter().filter(|wanted| !has(wanted)).chain(of_admin).map(|lack| (*lack).to_owned()).collect()
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

    fn lacks(grants: &[&str], kind: &Kind) -> Vec<String> {
        lacking(&grants.iter().map(|grant| (*grant).to_owned()).collect::<Vec<_>>(), kind)
    }

    #[test]
    fn an_account_that_may_do_all_of_it_lacks_nothing() {
        let mariadb =
            "GRANT PROCESS, CONNECTION ADMIN, READ_ONLY ADMIN ON *.* TO `stonith`@`%` IDENTIFIED BY PASSWORD '*0'";
        let mysql =
            ["GRANT PROCESS ON *.* TO `s`@`%`", "GRANT CONNECTION_ADMIN,SYSTEM_VARIABLES_ADMIN ON *.* TO `s`@`%`"];
        let all = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"];
        assert!(lacks(&[mariadb], &MARIADB).is_empty() && lacks(&mysql, &Kind::MySql).is_empty());
        assert!(lacks(&all, &MARIADB).is_empty() && lacks(&all, &Kind::MySql).is_empty());
        assert!(lacks(&["GRANT PROCESS, SUPER ON *.* TO `s`@`%`"], &Kind::MySql).is_empty());
    }

    #[test]
    fn what_is_granted_on_one_schema_or_not_at_all_is_lacking() {
        assert_eq!(
            lacks(&["GRANT USAGE ON *.* TO `s`@`%`"], &MARIADB),
            ["PROCESS", "READ_ONLY ADMIN", "CONNECTION ADMIN"]
        );
        assert_eq!(lacks(&["GRANT ALL PRIVILEGES ON `t`.* TO `s`@`%`"], &Kind::MySql).len(), 3);
        assert_eq!(
            lacks(&["GRANT PROCESS, SUPER ON *.* TO `s`@`%`"], &MARIADB),
            ["READ_ONLY ADMIN", "CONNECTION ADMIN"]
        );
        assert_eq!(lacks(&["something else ON *.* TO x", ""], &Kind::MySql).len(), 3);
    }
}
