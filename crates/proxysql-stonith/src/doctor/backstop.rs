//! Whether ProxySQL itself refuses two writers: the backstop for when no agent runs.

use stonith_core::table::Row;

use super::{Area, Check, Facts, Finding, Fix, Level, Need};

pub const CHECK: Check = Check {
    name: "backstop",
    area: Area::ProxySql,
    needs: Need::Survey,
    labels: &["no-backstop", "backstop-in-force"],
    run,
};

const NONE: &str = "Without an agent nothing keeps a second writer out. Measured with max_num_online_servers = 1: ProxySQL uses \
                    neither of two ONLINE writers until one is fenced (facts §5). It needs a hostgroup with one primary";

const IN_FORCE: &str = "ProxySQL uses none of them until one is out of service (facts §5)";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let (Some(view), Some(survey)) = (&proxy.view, &proxy.survey) else { continue };
        let Some(limits) = &survey.online_limits else { continue };
        for pair in &view.pairs {
            let is_online = |row: &&Row| row.key.hostgroup == pair.writer && row.status.in_service();
            let writers = proxy.rows().filter(is_online).count();
            let limit = limits.get(&pair.writer).copied().filter(|limit| *limit < 1_000_000);
            match limit {
                // Several primaries on purpose: no backstop fits.
                None if writers > 1 => {}
                None => {
                    let what = format!("writer hostgroup {} has no max_num_online_servers", pair.writer);
                    let fix =
                        Fix::Shell(format!("proxysql-stonith install backstop --proxysql={}", proxy.snapshot.proxysql));
                    found.push(Finding::new(Level::Note, "no-backstop", what).why(NONE).fix(fix).at(proxy));
                }
                Some(limit) if u64::try_from(writers).is_ok_and(|writers| writers > limit) => {
                    let what =
                        format!("writer hostgroup {} has {writers} ONLINE servers, and may have {limit}", pair.writer);
                    let fix = Fix::Shell(
                        "proxysql-stonith status   # then fence the node that is not the primary".to_owned(),
                    );
                    let finding = Finding::new(Level::Error, "backstop-in-force", what);
                    found.push(finding.why(IN_FORCE).fix(fix).at(proxy));
                }
                Some(_) => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::{healthy, row};
    use super::*;

    fn found(limited: bool, second_writer: bool) -> Vec<(Level, &'static str)> {
        let mut facts = healthy();
        let proxy = &mut facts.proxies[0];
        if !limited {
            proxy.survey.as_mut().unwrap().online_limits = Some([].into());
        }
        if second_writer {
            proxy.view.as_mut().unwrap().runtime.push(row(10, "node02"));
        }
        run(&facts).into_iter().map(|finding| (finding.level, finding.label)).collect()
    }

    #[test]
    fn a_writer_hostgroup_with_a_limit_is_well_and_so_are_primaries_on_purpose() {
        assert_eq!(found(true, false), []);
        assert_eq!(found(false, true), []);
    }

    #[test]
    fn a_writer_hostgroup_without_a_limit_is_noted_and_one_beyond_it_is_an_error() {
        assert_eq!(found(false, false), [(Level::Note, "no-backstop")]);
        assert_eq!(found(true, true), [(Level::Error, "backstop-in-force")]);
    }
}
