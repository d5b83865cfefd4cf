//! Whether Orchestrator takes the program's login, and whether it asks anybody for one.

use stonith_core::orchestrator::CameBackKind;

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};

pub const CHECK: Check = Check {
    name: "authentication",
    area: Area::Orchestrator,
    needs: Need::Endpoint,
    labels: &["login-refused", "api-open"],
    run,
};

const REFUSED: &str = "An answer that is refused cannot be used: nothing new is fenced or let back as long as it lasts, and \
                       the nodes are held as they are";

const OPEN: &str =
    "Whoever reaches Orchestrator's API can begin a downtime, which fences a node, or fail a cluster over";

fn run(facts: &Facts) -> Vec<Finding> {
    let endpoints = &facts.orchestrator.endpoints;
    let mut found = Vec::new();
    for seen in endpoints {
        if let Err(problem) = &seen.leads
            && problem.kind == CameBackKind::Refused
        {
            let fix = Fix::Config("[orchestrator] user = \"...\", password_file = \"...\"".to_owned());
            found.push(Finding::new(Level::Error, "login-refused", &problem.text).why(REFUSED).fix(fix));
        }
    }
    let open: Vec<&str> =
        endpoints.iter().filter(|seen| seen.is_open && seen.is_far).map(|seen| seen.url.as_str()).collect();
    if !open.is_empty() {
        let what = format!("Orchestrator asks for no login: {}", few(&open));
        let fix = "\"AuthenticationMethod\": \"basic\", \"HTTPAuthUser\": \"...\", \"HTTPAuthPassword\": \"...\"";
        found.push(Finding::new(Level::Note, "api-open", what).why(OPEN).fix(Fix::Orchestrator(fix.to_owned())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;
    use crate::orchestrator::Problem;

    #[test]
    fn an_orchestrator_that_takes_the_login_is_well() {
        assert_eq!(run(&healthy()), []);
    }

    #[test]
    fn a_login_that_is_refused_is_an_error() {
        let mut facts = healthy();
        let text = "Orchestrator at http://orc1:3000 refused /api/leader-check with 401".to_owned();
        facts.orchestrator.endpoints[0].leads = Err(Problem { kind: CameBackKind::Refused, text });
        let [found] = &run(&facts)[..] else { panic!() };
        assert_eq!((found.level, found.label), (Level::Error, "login-refused"));
    }

    #[test]
    fn an_api_without_login_is_noted_where_others_reach_it() {
        let mut facts = healthy();
        facts.orchestrator.endpoints[0].is_far = true;
        let [found] = &run(&facts)[..] else { panic!() };
        assert_eq!((found.level, found.label), (Level::Note, "api-open"));
        assert!(found.what.ends_with("http://orc1:3000"), "{found:?}");
    }
}
