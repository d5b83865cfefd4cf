//! Whether certificates name the host that is asked, and how long they last.

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};
use crate::certificate::Certificate;

pub const CHECK: Check = Check {
    name: "certificates",
    area: Area::Orchestrator,
    needs: Need::Certificates,
    labels: &["certificate-ends", "certificate-over", "certificate-name", "client-certificate-ends"],
    run,
};

/// How long before its end a certificate is to be renewed, s.
const RENEW_S: i64 = 30 * 24 * 3_600;

const OVER: &str = "A certificate that is over is refused. Then no answer of this node can be used, and the nodes are held as \
                    they are";

const NAME: &str = "A certificate that does not name the host is refused, unless tls_verify is false, and then any host can \
                    answer in its place";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for seen in &facts.orchestrator.endpoints {
        let Some(certificate) = &seen.certificate else { continue };
        let look = || {
            let address = seen.url.trim_start_matches("https://").split('/').next().unwrap_or_default();
            let show = "openssl x509 -noout -dates -ext subjectAltName";
            Fix::Shell(format!("openssl s_client -connect {address} </dev/null | {show}   # and renew it"))
        };
        if let Some((level, label, when)) = end(facts, certificate) {
            let what = format!("the certificate of Orchestrator at {} {when}", seen.url);
            found.push(Finding::new(level, label, what).why(OVER).fix(look()));
        }
        if !certificate.is_for(&seen.host) {
            let names = if certificate.names.is_empty() { "no name".to_owned() } else { few(&certificate.names) };
            let what = format!("the certificate of Orchestrator at {} is for {names}", seen.url);
            let level = if facts.verifies { Level::Error } else { Level::Warning };
            found.push(Finding::new(level, "certificate-name", what).why(NAME).fix(look()));
        }
    }
    if let Some((level, _, when)) = facts.own_certificate.as_ref().and_then(|own| end(facts, own)) {
        let what = format!("the certificate that this program shows to Orchestrator {when}");
        let fix = Fix::Config("orchestrator.client_cert = \"...\", client_key = \"...\"   # a new one".to_owned());
        found.push(Finding::new(level, "client-certificate-ends", what).why(OVER).fix(fix));
    }
    found
}

/// Whether a certificate ends soon, and when.
fn end(facts: &Facts, certificate: &Certificate) -> Option<(Level, &'static str, String)> {
    let left_s = certificate.ends_s.saturating_sub(facts.now_s);
    let days = left_s.abs() / (24 * 3_600);
    if left_s <= 0 {
        Some((Level::Error, "certificate-over", format!("ended {days} days ago")))
    } else {
        (left_s <= RENEW_S).then(|| (Level::Warning, "certificate-ends", format!("ends in {days} days")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;

    fn with(names: &[&str], left_s: i64) -> Facts {
        let mut facts = healthy();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = Certificate { names, ends_s: facts.now_s + left_s };
        facts.orchestrator.endpoints[0].url = "https://orc1:443".to_owned();
        facts.orchestrator.endpoints[0].certificate = Some(certificate);
        facts
    }

    fn found(facts: &Facts) -> Vec<(Level, &'static str)> {
        run(facts).into_iter().map(|finding| (finding.level, finding.label)).collect()
    }

    #[test]
    fn a_certificate_for_the_host_that_lasts_is_well() {
        assert_eq!(found(&with(&["orc1"], RENEW_S + 1)), []);
    }

    #[test]
    fn a_certificate_that_ends_soon_or_is_over_is_found() {
        assert_eq!(found(&with(&["orc1"], RENEW_S)), [(Level::Warning, "certificate-ends")]);
        assert_eq!(found(&with(&["orc1"], 0)), [(Level::Error, "certificate-over")]);
        let mut facts = healthy();
        facts.own_certificate = Some(Certificate { names: Vec::new(), ends_s: facts.now_s + 86_400 });
        assert_eq!(found(&facts), [(Level::Warning, "client-certificate-ends")]);
        assert!(run(&facts)[0].what.ends_with("ends in 1 days"));
    }

    #[test]
    fn a_certificate_for_another_host_is_an_error_unless_nothing_is_verified() {
        let mut facts = with(&["orc2"], RENEW_S + 1);
        assert_eq!(found(&facts), [(Level::Error, "certificate-name")]);
        facts.verifies = false;
        assert_eq!(found(&facts), [(Level::Warning, "certificate-name")]);
    }
}
