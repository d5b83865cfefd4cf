//! What the program writes, it and ProxySQL read back: the config in force, and any text in SQL.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use proxysql_stonith::config::{Config, ConfigError, Environment, Flags, Origin, duration, keys};

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn load(path: &Path) -> Result<Config, ConfigError> {
    let flags = Flags::default().with(&keys::CONFIG_FILE, path.to_str().unwrap());
    Config::load(&flags, &Environment::of(|_| None))
}

/// All of a config but where it came from.
fn values(config: &Config) -> impl PartialEq + std::fmt::Debug + use<> {
    let Config { orchestrators, mut proxies, run, log, .. } = config.clone();
    for after in proxies.iter_mut().filter_map(|proxy| proxy.isolation.after.as_mut()) {
        after.origin = Origin::Default;
    }
    (orchestrators, proxies, run, log)
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// `key = value`, or nothing.
fn line(key: &'static str, value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::option::of(value).prop_map(move |value| value.map_or(String::new(), |value| format!("{key} = {value}\n")))
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(toml_text)
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![1..5_000_u64, Just(1), Just(86_400_000), 1..2_592_000_000_u64].prop_map(|ms| format!("\"{ms}ms\""))
}

fn interval() -> impl Strategy<Value = String> {
    (1_000..3_600_000_u64).prop_map(|ms| format!("\"{ms}ms\""))
}

/// Anything that a person may call a user or a file.
fn name() -> impl Strategy<Value = String> {
    "\\PC{1,12}|[a-z'\"\\\\#= \t\n\u{7f}]{1,8}"
}

/// Config files, good ones mostly.
fn config(secret: String) -> impl Strategy<Value = String> {
    let endpoints = prop::collection::btree_set("http://[a-z]{1,6}(:[1-9][0-9]{0,3})?(/[a-zA-Z]{1,4})?(/api)?/?", 1..4)
        .prop_map(|urls| {
            format!("endpoints = [{}]\n", urls.iter().map(|url| toml_text(url)).collect::<Vec<_>>().join(", "))
        });
    let credential = {
        let secret = secret.clone();
        name().prop_map(move |user| format!("user = {}\npassword_file = {}\n", toml_text(&user), toml_text(&secret)))
    };
    let orchestrator = (
        endpoints,
        prop::option::of(credential),
        line("tls_verify", any::<bool>().prop_map(|verify| verify.to_string())),
        line("connect_timeout", time()),
        line("read_timeout", time()),
        line("tick_timeout", time()),
    )
        .prop_map(|(endpoints, credential, verify, connect, read, tick)| {
            format!("[orchestrator]\n{endpoints}{}{verify}{connect}{read}{tick}", credential.unwrap_or_default())
        });
    let hostgroups = || {
        let all = prop::collection::btree_set(0..100_000_u32, 0..4);
        all.prop_map(|all| format!("{all:?}").replace(['{'], "[").replace('}', "]"))
    };
    let own =
        (line("mode", word(&["enforce", "observe"])), line("exclude_hostgroups", hostgroups()), line("after", time()))
            .prop_map(|(mode, excluded, after)| {
                format!("[proxysql.policy]\n{mode}{excluded}[proxysql.isolation]\n{after}")
            });
    let accepts = line("accept_lost_edits", any::<bool>().prop_map(|allow| allow.to_string()));
    // Its own sections come after its keys.
    let proxy = (name(), (accepts, prop::option::of(own)).prop_map(|(keys, own)| keys + &own.unwrap_or_default()));
    let addresses = "([a-z]{1,5}(\\.[a-z]{1,5})?|\\[fe80::[1-9]\\]):[1-9][0-9]{0,3}";
    let proxies = prop::collection::btree_map(addresses, proxy, 1..4).prop_map(move |proxies: BTreeMap<_, _>| {
        let one = |(address, (user, allow)): (String, (String, String))| {
            let (address, user, secret) = (toml_text(&address), toml_text(&user), toml_text(&secret));
            format!("[[proxysql]]\naddress = {address}\nuser = {user}\npassword_file = {secret}\n{allow}")
        };
        proxies.into_iter().map(one).collect::<String>()
    });
    let policy = (
        line("mode", word(&["enforce", "observe"])),
        line("fence_on", word(&["any-downtime", "lost-in-recovery"])),
        line("max_downtime_fences", (0..100_u32).prop_map(|most| most.to_string())),
        line("exclude_hostgroups", hostgroups()),
        line("writer_hostgroups", hostgroups()),
        line("errant_gtid", word(&["hold", "warn"])),
        line("on_blind", word(&["hold", "isolate"])),
    )
        .prop_map(|(a, b, c, d, e, f, g)| format!("[policy]\n{a}{b}{c}{d}{e}{f}{g}"));
    let rest = (
        line("after", time()),
        line("scope", word(&["all", "writers", "off"])),
        line("interval", interval()),
        line("scheduler_interval", interval()),
        line("state_dir", name().prop_map(|name| toml_text(&format!("/var/{name}")))),
        line("format", word(&["text", "json"])),
        line("level", word(&["error", "warn", "info", "debug", "trace"])),
    )
        .prop_map(|(after, scope, interval, scheduler, dir, format, level)| {
            format!("[isolation]\n{after}{scope}[run]\n{interval}{scheduler}{dir}[log]\n{format}{level}")
        });
    (orchestrator, proxies, policy, rest).prop_map(|(a, b, c, d)| format!("{a}{b}{c}{d}"))
}

#[test]
fn the_config_in_force_reads_back_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("it's a \"secret\" #1");
    write(&secret, "hunter2\n");
    let (first, second) = (dir.path().join("first.toml"), dir.path().join("second.toml"));
    let mut accepted = 0;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = config(secret.to_string_lossy().into_owned());
    for _ in 0..128 {
        let text = proptest::strategy::ValueTree::current(&strategy.new_tree(&mut runner).unwrap());
        write(&first, &text);
        let config = match load(&first) {
            Ok(config) => config,
            Err(error) => {
                assert!(!error.to_string().contains("hunter2"), "I11: {error}");
                continue;
            }
        };
        accepted += 1;
        let shown = config.to_toml();
        assert!(!shown.contains("hunter2"), "I11: {shown}");
        write(&second, &shown);
        let again = load(&second).unwrap_or_else(|error| panic!("{error}\n{text}\n{shown}"));
        assert_eq!(values(&config), values(&again), "{text}\n{shown}");
    }
    assert!(accepted > 100, "only {accepted} of 128 were configs at all");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_duration_reads_back_from_what_it_shows(ms in prop_oneof![1..100_000_u64, 1..2_592_000_000_u64]) {
        let duration = std::time::Duration::from_millis(ms);
        prop_assert_eq!(duration::parse(&duration::show(duration)), Ok(duration));
    }

    #[test]
    fn an_endpoint_reads_back_from_what_it_shows(text in "https?://([a-zA-Z0-9.-]{1,8}|\\[[0-9a-f:]{2,8}\\])(:[0-9]{1,5})?(/[b-hA-Z0-9%_.-]{0,3}){0,3}(/api)?") {
        use proxysql_stonith::orchestrator::Endpoint;
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
        }
    }
}

#[cfg(feature = "demo")]
mod on_the_lab {
    use std::time::Duration;

    use lab::nodes::Nodes;
    use lab::proxysql::ProxySql;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proxysql_stonith::clock;
    use proxysql_stonith::proxysql::{Admin, Settings, drive, observe, probe};
    use proxysql_stonith::secret::{Credential, Secret};
    use stonith_core::evidence::EvidenceKind;
    use stonith_core::managed::Managed;
    use stonith_core::node::Node;
    use stonith_core::observed::ProxyView;
    use stonith_core::plan::{Directive, Plan};
    use stonith_core::policy::Policy;
    use stonith_core::role::Role;
    use stonith_core::table::Layer;

    const LAYERS: [Layer; 3] = Layer::ALL;

    /// What an operator may write into a comment: SQL, quotes, comments, binary. SQLite's texts end at a NUL.
    fn comment() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            "[^\u{0}]{0,5}",
            prop::sample::select(vec![
                "'", "''", "\"", "`", "\\", "\\'", "--", "/*", "*/", ";", "\n", "\r", "?1", ":a", "%", "\u{feff}"
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(pieces, 1..6).prop_map(|pieces| pieces.concat())
    }

    fn comments(view: &ProxyView, node: &Node) -> Vec<(String, String)> {
        let rows = LAYERS.iter().flat_map(|layer| view.layer(*layer)).filter(|row| row.node().as_ref() == Some(node));
        rows.map(|row| (row.status.to_string(), row.comment.clone())).collect()
    }

    async fn carry_out(admin: &mut Admin, node: &Node, directive: Directive) -> ProxyView {
        let probed = probe(admin, false).await.unwrap();
        let view = observe(admin, &probed, &Policy::default(), "us", None, 0).await.unwrap().view;
        let managed = Managed::of(&view, &Policy::default());
        let plan = Plan::new(managed, [(node.clone(), directive)].into(), &view);
        let outcome = drive(admin, &probed, plan, "test".to_owned(), clock::boot_ms, &mut |_| {}).await.unwrap();
        assert!(!format!("{outcome:?}").is_empty());
        observe(admin, &probed, &Policy::default(), "us", None, 0).await.unwrap().view
    }

    /// Through the program's own SQL, real SQLite, and back over the admin protocol.
    #[tokio::test]
    async fn i3_any_comment_survives_fence_and_return_in_every_layer() {
        let nodes = Nodes::new(&["node01", "node02"]);
        let proxy = ProxySql::start(nodes, lab::proxysql::Settings::default()).await.unwrap();
        let address = Node::new("127.0.0.1", proxy.address().port()).unwrap();
        let credential = Credential { user: "radmin".to_owned(), password: Secret::new("radmin") };
        let mut admin =
            Admin::connect(&Settings { address, socket: None, credential, tls: None, timeout: Duration::from_secs(5) })
                .await
                .unwrap();
        let node: Node = "node02:3306".parse().unwrap();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..40 {
            let comment = comment().new_tree(&mut runner).unwrap().current();
            if comment.contains(" [stonith:") {
                continue;
            }
            let literal = format!("'{}'", comment.replace('\'', "''"));
            for sql in [
                "DELETE FROM mysql_servers",
                "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01')",
                &format!("INSERT INTO mysql_servers (hostgroup_id,hostname,comment) VALUES (20,'node02',{literal})"),
                "LOAD MYSQL SERVERS TO RUNTIME",
                "SAVE MYSQL SERVERS TO DISK",
            ] {
                proxy.query(sql).unwrap_or_else(|error| panic!("{comment:?}: {error}"));
            }
            let fence = Directive::Fence {
                kind: EvidenceKind::Superseded,
                by: Some("node01:3306".parse().unwrap()),
                sessions: false,
            };
            let fenced = carry_out(&mut admin, &node, fence).await;
            let marked = format!("{comment} [stonith:1 superseded by=node01:3306 was=ONLINE]");
            assert_eq!(comments(&fenced, &node), vec![("OFFLINE_SOFT".to_owned(), marked); 3], "{comment:?}");
            let back = carry_out(&mut admin, &node, Directive::Unfence(Role::AsBefore)).await;
            assert_eq!(comments(&back, &node), vec![("ONLINE".to_owned(), comment.clone()); 3], "{comment:?}");
        }
        assert_eq!(proxy.unknown(), Vec::<String>::new());
    }
}
