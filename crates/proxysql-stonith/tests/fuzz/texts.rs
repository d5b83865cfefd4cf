//! Texts and files: an answer or an error, and what was understood reads back.

use std::path::Path;
use std::time::Duration;

use proxysql_stonith::config::{Config, Environment, Flags, RawFile, duration};
use proxysql_stonith::orchestrator::Endpoint;
use proxysql_stonith::proxysql::Version;
use proxysql_stonith::state::{Loaded, State, StateDir};
use stonith_core::marker::Comment;
use stonith_core::memory::Memory;
use stonith_core::node::{Host, Node};
use stonith_core::row::Status;
use stonith_core::table::{Content, Record, SERVERS};

use crate::mutation::fuzz;

const COMMENTS: [&str; 6] = [
    "",
    "rack 7, it's \u{e9} [x] was=ONLINE]",
    " [stonith:1 superseded by=node02:3306 was=ONLINE]",
    "rack 7 [stonith:1 isolation was=ONLINE]",
    " [stonith:1 barrier by=[fe80::1]:3306 was=OFFLINE_HARD]",
    " [stonith:2 superseded was=ONLINE]",
];

const CONFIG: &str = include_str!("config.toml");

#[test]
fn a_comment_is_plain_ours_to_the_byte_or_held() {
    fuzz("marker", 20_000, |mutator| {
        let text = mutator.text(&COMMENTS);
        match Comment::parse(&text) {
            Comment::Plain => assert!(!text.contains(" [stonith:")),
            Comment::Marked(before, marker) => assert_eq!(format!("{before}{marker}"), text),
            Comment::Unreadable(before) => assert!(text.starts_with(before) && before.len() < text.len()),
        }
    });
}

#[test]
fn a_name_an_address_a_duration_or_a_version_reads_back_or_is_an_error() {
    fuzz("words", 20_000, |mutator| {
        let text = mutator.text(&["node01:3306", "[fe80::1]:3307", "10.0.0.1:1", "Node01.Example."]);
        if let Ok(node) = text.parse::<Node>() {
            assert_eq!(node.to_string().parse(), Ok(node));
        }
        if let Ok(host) = text.parse::<Host>() {
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        let text = mutator.text(&["10s", "1m 30s", "500ms", "30days", "1h", "2592000000ms"]);
        if let Ok(time) = duration::parse(&text) {
            assert!(time >= Duration::from_millis(1) && time <= duration::LONGEST, "{text}");
            assert_eq!(duration::parse(&duration::show(time)), Ok(time));
        }
        let text = mutator.text(&[
            "http://orc1:3000",
            "https://lb/orchestrator/api",
            "http://[::1]:3000/x/",
            "http://u:p@orc1",
        ]);
        if let Ok(endpoint) = text.parse::<Endpoint>()
            && !endpoint.to_string().ends_with("/api") // `/api/api`, which no Orchestrator has
            && !endpoint.host().contains(['[', ']'])
        // the config refuses those before
        {
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint), "{text}");
        }
        let text = mutator.text(&["2.7.1-16-g2726c27", "2.7.1", "3.0"]);
        if let Ok(version) = text.parse::<Version>() {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        let text = mutator.text(&["ONLINE", "offline_soft", "SHUNNED", "OFFLINE_HARD"]);
        assert_eq!(
            Status::parse(&text).in_service(),
            ["ONLINE", "SHUNNED"].iter().any(|s| s.eq_ignore_ascii_case(&text)),
            "I1"
        );
    });
}

#[test]
fn records_of_the_server_table_read_back_or_are_an_error() {
    let columns: Vec<String> =
        ["hostgroup_id", "hostname", "port", "gtid_port", "status", "weight", "comment"].map(str::to_owned).to_vec();
    let values = ["10", "node01", "3306", "0", "ONLINE", "1", "rack 7 [stonith:1 isolation was=ONLINE]"];
    fuzz("rows", 5_000, |mutator| {
        let mut columns = columns.clone();
        let mut records: Vec<Record> = vec![values.map(|value| Some(value.to_owned())).to_vec(); 3];
        for _ in 0..mutator.0.usize(1..4) {
            let record = mutator.0.usize(0..records.len());
            let at = mutator.0.usize(0..values.len());
            match mutator.0.u8(0..8) {
                0 => columns[at] = mutator.text(&["hostgroup_id", "status", "comment", "port"]),
                1 => drop(records[record].pop()),
                2 => records[record].push(Some(mutator.text(&values))),
                3 => records[record].iter_mut().skip(at).take(1).for_each(|value| *value = None),
                _ => {
                    let new = mutator.text(&values);
                    records[record].iter_mut().skip(at).take(1).for_each(|value| *value = Some(new.clone()));
                }
            }
        }
        let content = Content::new(SERVERS, columns, records);
        if let Ok(mut rows) = content.rows() {
            let mut again = content.with_rows(&rows).rows().unwrap();
            // A port such as 007, which SQLite would not keep, sorts otherwise.
            rows.sort();
            again.sort();
            assert_eq!(again, rows, "{content:?}");
        }
    });
}

#[test]
fn a_config_file_is_read_or_is_an_error_that_says_where_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stonith.toml");
    let flags = Flags { config: Some(path.clone()), ..Flags::default() };
    let other = "[client]\nuser = admin\npassword = \"hunter2\"\n[orchestrator]\npassword=x\n";
    fuzz("config", 500, |mutator| {
        let bytes =
            mutator.mutated(&[CONFIG.as_bytes().to_vec(), CONFIG.as_bytes().to_vec(), other.as_bytes().to_vec()]);
        let text = String::from_utf8_lossy(&bytes);
        let says_nothing_secret = |said: String| assert!(!said.contains("hunter2"), "I11: {said}");
        if let Err(error) = RawFile::parse(Path::new("stonith.toml"), &text) {
            says_nothing_secret(error.to_string());
            assert!(!error.problem.is_empty());
        }
        write(&path, &bytes);
        match Config::load(&flags, &Environment::of(|_| None)) {
            Ok(config) => says_nothing_secret(config.to_toml()),
            Err(error) => says_nothing_secret(error.to_string()),
        }
        // The same bytes as an option file.
        let env = Environment::of(|name| match name {
            "PROXYSQL_STONITH_CONFIG" => Some("/dev/null/none".into()),
            "PROXYSQL_STONITH_DEFAULTS_FILE" => Some(path.clone().into()),
            _ => None,
        });
        let plain = dir.path().join("plain.toml");
        write(
            &plain,
            b"[orchestrator]\nendpoints = [\"http://orc1:3000\"]\n[[proxysql]]\naddress = \"127.0.0.1:6032\"\n",
        );
        match Config::load(&Flags { config: Some(plain), ..Flags::default() }, &env) {
            Ok(config) => says_nothing_secret(config.to_toml()),
            Err(error) => says_nothing_secret(error.to_string()),
        }
    });
}

#[test]
fn a_state_file_is_kept_or_set_aside_and_never_half_believed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let proxy: Node = "127.0.0.1:6032".parse().unwrap();
    let path = |what: &str| dir.path().join(format!("{what}-127.0.0.1_6032.json"));
    let clear = || {
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let _ = std::fs::remove_file(entry.unwrap().path());
        }
    };
    let mut memory = Memory::first_start("boot", 1_750_000_000, 1_000);
    memory.known = ["node01:3306", "[fe80::1]:3306"].map(|node| node.parse().unwrap()).into();
    memory.armed = true;
    memory.lease_asked_ms = Some(5_000);
    StateDir::new(dir.path(), &proxy).save(&State { memory, ..State::default() }).unwrap();
    let seeds = [std::fs::read(path("state")).unwrap(), std::fs::read(path("tick")).unwrap()];
    let now = proxysql_stonith::clock::Now { wall_s: 1_750_000_000, boot_ms: 6_000, boot_id: "boot".to_owned() };
    let orders = {
        StateDir::new(dir.path(), &proxy).suspend("a reason", "me", Duration::from_secs(60), &now).unwrap();
        StateDir::new(dir.path(), &proxy).release(&"node01:3306".parse().unwrap(), Default::default()).unwrap();
        std::fs::read(path("orders")).unwrap()
    };
    fuzz("state", 800, |mutator| {
        clear();
        write(&path("state"), &mutator.mutated(&seeds));
        write(&path("tick"), &mutator.mutated(&seeds));
        write(&path("orders"), &mutator.mutated(std::slice::from_ref(&orders)));
        let mut state = StateDir::new(dir.path(), &proxy);
        let orders = state.orders(&now);
        assert!(orders.problem.is_none() || (orders.suspension.is_none() && orders.orders.released.is_empty()));
        match state.load() {
            Loaded::Kept(kept) => {
                state.save(&kept).unwrap();
                let again = StateDir::new(dir.path(), &proxy).peek().unwrap();
                assert_eq!(again.as_ref().map(|state| state.memory.without_times()), Some(kept.memory.without_times()));
            }
            Loaded::Unusable { set_aside, .. } => {
                assert!(set_aside.is_some_and(|path| path.exists()));
                assert!(matches!(StateDir::new(dir.path(), &proxy).load(), Loaded::Fresh));
            }
            Loaded::Untouchable(_) => assert!(state.save(&State::default()).is_err() && path("state").exists()),
            Loaded::Fresh => panic!("a file is there"),
        }
    });
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}
