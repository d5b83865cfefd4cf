//! Texts of a line: the note in a comment, names, addresses, and the words of settings and answers. What is understood
//! reads back from what it shows.

use std::time::Duration;

use proxysql_stonith::config::{
    Config, Enforcement, Environment, Flags, LogFormat, LogLevel, OnBlind, Word, duration, keys,
};
use proxysql_stonith::orchestrator::{Endpoint, answers};
use proxysql_stonith::proxysql::Version;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::{Host, Node};
use stonith_core::orchestrator::uid_ns;
use stonith_core::policy::{FenceOn, IsolationScope};
use stonith_core::table::{CheckType, Comment, Marker, Status, mark, unmarked};

use super::{may_be_said, owned};

pub fn marker_seeds() -> Vec<Vec<u8>> {
    owned(&[
        b"",
        "rack 7, it's \u{e9} [x] was=ONLINE]".as_bytes(),
        b" [stonith:1 superseded by=node02:3306 was=ONLINE]",
        b"rack 7 [stonith:1 isolation was=ONLINE]",
        b" [stonith:1 barrier by=[fe80::1]:3306 was=OFFLINE_HARD]",
        b" [stonith:1 lost-in-recovery was=SHUNNED]",
        b" [stonith:2 superseded was=ONLINE]",
    ])
}

/// A row's comment: plain, ours to the byte, or held.
pub fn marker(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let head = text.split('\0').next().unwrap();
    match Comment::parse(&text) {
        Comment::Plain => {
            assert!(!head.contains(" [stonith:"));
            let marker =
                Marker { kind: EvidenceKind::Barrier, by: Node::new("node02", 3306).ok(), was: Status::Online };
            let marked = mark(&text, &marker);
            assert_eq!(Comment::parse(&marked), Comment::Marked(head, marker.clone()), "I3");
            assert_eq!(unmarked(&marked), text, "I3");
            assert_eq!(mark(&marked, &marker), marked, "one per row");
            false
        }
        Comment::Marked(before, marker) => {
            assert_eq!(format!("{before}{marker}"), head);
            assert_eq!(Comment::parse(before), Comment::Plain);
            true
        }
        Comment::Unreadable(before) => {
            assert!(text.starts_with(before) && before.len() < text.len());
            false
        }
    }
}

pub fn name_seeds() -> Vec<Vec<u8>> {
    owned(&[b"node01:3306", b"[fe80::1]:3307", b"10.0.0.1:1", b"Node01.Example.", b"node01", b"/run/mysqld.sock:0"])
}

/// A node, or a host without its port.
pub fn names(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (node, host) = (text.parse::<Node>(), text.parse::<Host>());
    match &node {
        Ok(node) => {
            assert_eq!(node.to_string().parse().as_ref(), Ok(node));
            let json = serde_json::to_string(node).unwrap();
            assert_eq!(serde_json::from_str::<Node>(&json).unwrap(), *node);
        }
        Err(error) => may_be_said(&error.to_string()),
    }
    match &host {
        Ok(host) => {
            assert_eq!(host.to_string().parse().as_ref(), Ok(host));
            assert!(host.as_str().bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
            let node = Node { host: host.clone(), port: 3306 };
            assert_eq!(node.to_string().parse(), Ok(node), "a host in a key of JSON reads back as a node");
        }
        Err(error) => may_be_said(&error.to_string()),
    }
    node.is_ok() || host.is_ok()
}

pub fn address_seeds() -> Vec<Vec<u8>> {
    owned(&[
        b"http://orc1:3000",
        b"https://lb/orchestrator/api",
        b"http://[::1]:3000/x/ HTTPS://Orc1:443/",
        b"http://u:hunter2@orc1",
        b"127.0.0.1:6032",
        b"[::1]:6032,localhost:6032",
    ])
}

/// Orchestrator's endpoints and ProxySQL's addresses, as a flag or a variable has them.
pub fn addresses(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let is_in_a_url = text.contains("hunter2@") && text.matches("hunter2").count() == 1;
    let said = |error: String| {
        may_be_said(&error);
        assert!(!is_in_a_url || !error.contains("hunter2"), "I11: {error}");
    };
    let endpoint = text.parse::<Endpoint>();
    match &endpoint {
        Ok(endpoint) => assert_eq!(endpoint.to_string().parse().as_ref(), Ok(endpoint)),
        Err(error) => said(error.to_string()),
    }
    let both = |endpoints: &str, proxies: &str| {
        Flags::default().with(&keys::ENDPOINTS, endpoints).with(&keys::ADDRESS, proxies)
    };
    let (endpoints, proxies) = (both(&text, "127.0.0.1:6032"), both("http://orc1:3000", &text));
    let mut accepted = endpoint.is_ok();
    for flags in [endpoints, proxies] {
        match Config::load(&flags, &environment()) {
            Ok(config) => {
                for url in config.orchestrators.iter().flat_map(|one| &one.endpoints) {
                    let endpoint: Endpoint = url.parse().expect("what the config accepts the client can use");
                    assert_eq!(endpoint.to_string().parse().as_ref(), Ok(&endpoint), "{url}");
                }
                for proxy in &config.proxies {
                    assert_eq!(proxy.address.to_string().parse().as_ref(), Ok(&proxy.address));
                }
                accepted = true;
            }
            Err(error) => said(error.to_string()),
        }
    }
    accepted
}

fn environment() -> Environment {
    Environment::of(|name| match name {
        "PROXYSQL_STONITH_PROXYSQL_USER" => Some("stonith".into()),
        "PROXYSQL_STONITH_PROXYSQL_PASSWORD" => Some("secret".into()),
        _ => None,
    })
}

pub fn word_seeds() -> Vec<Vec<u8>> {
    owned(&[
        b"10s",
        b"1m 30s",
        b"500ms",
        b"30days",
        b"2592000000ms",
        b"2.7.1-16-g2726c27",
        b"3.0.0",
        b"Mon, 23 Nov 2026 06:20:36 GMT",
        b"1795414811497811603:811ae46c",
        b"ONLINE",
        b"offline_soft",
        b"SHUNNED",
        b"OFFLINE_HARD",
        b"super_read_only",
        b"read_only",
        b"superseded",
        b"lost-in-recovery",
        b"observe",
        b"isolate",
        b"json",
        b"trace",
        b"writers",
    ])
}

/// One word of a setting or an answer, to everything that reads one.
pub fn words(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let time = duration::parse(&text);
    match &time {
        Ok(time) => {
            assert!(*time >= Duration::from_millis(1) && *time <= duration::LONGEST, "{text}");
            assert_eq!(duration::parse(&duration::show(*time)).as_ref(), Ok(time));
        }
        Err(error) => may_be_said(error),
    }
    let version = text.parse::<Version>();
    if let Ok(version) = version {
        assert_eq!(version.to_string().parse(), Ok(version));
    }
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(&text));
    let status = Status::parse(&text);
    assert_eq!(status.in_service(), is_one_of(&["ONLINE", "SHUNNED"]), "I1");
    assert_eq!(Status::parse(status.as_str()), status);
    let proves = text.split('|').any(|variable| variable.trim().eq_ignore_ascii_case("read_only"));
    assert_eq!(CheckType::parse(&text) == CheckType::ReadOnly, proves);
    let kind = EvidenceKind::parse(&text);
    assert!(kind.is_none_or(|kind| kind.to_string() == text));
    if let Some(ns) = uid_ns(&text) {
        assert_eq!(uid_ns(&format!("{ns}:x")), Some(ns));
    }
    let date = answers::http_date(&text);
    assert!(date.is_none_or(|s| (-400_000_000_000..400_000_000_000).contains(&s)), "{date:?} would overflow sums");
    let of_settings = [
        is_word::<Enforcement>(&text),
        is_word::<OnBlind>(&text),
        is_word::<LogFormat>(&text),
        is_word::<LogLevel>(&text),
        is_word::<FenceOn>(&text),
        is_word::<IsolationScope>(&text),
    ];
    let understood = [time.is_ok(), version.is_ok(), kind.is_some(), date.is_some()];
    understood.contains(&true) || of_settings.contains(&true)
}

fn is_word<W: Word>(text: &str) -> bool {
    match W::from_word(text) {
        Ok(word) => {
            assert_eq!(word.word(), text);
            true
        }
        Err(error) => {
            may_be_said(&error);
            false
        }
    }
}
