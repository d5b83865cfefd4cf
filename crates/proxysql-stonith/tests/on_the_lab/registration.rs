//! Agents that register themselves at Orchestrator: the hook finds them without its config.

use std::time::Duration;

use lab::orchestrator;
use proxysql_stonith::config::AgentUrl;
use proxysql_stonith::registration;
use proxysql_stonith::secret::Secret;

use super::barrier::{Scene, TOKEN, hung};
use super::stage::eventually;

const STRICT: &str = "forget_after = \"1h\"\ndeadline = \"5s\"\non_unconfirmed = \"abort\"";

const FORGET: &str = "forget_after = \"1h\"\ndeadline = \"5s\"";

/// A scene whose agent registers itself.
async fn scene() -> Scene {
    let scene = Scene::with(orchestrator::Settings::default(), "http.register_as = \"http://ADDRESS\"\n").await;
    let name = format!("proxysql-stonith:{}=", scene.agent);
    let has = |node: &str| scene.stage.orchestrator.tags(node).iter().any(|tag| tag.starts_with(&name));
    eventually("the agent is registered at each node", || ["node01", "node02", "node03"].into_iter().all(has)).await;
    scene
}

fn now_s() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Registers an agent, as somebody with a token does.
fn register(scene: &Scene, agent: &AgentUrl, at_s: i64, token: &str) {
    let (name, value) = (registration::name(agent), registration::value(agent, at_s, &Secret::new(token)));
    scene.stage.orchestrator.set_tag("node01", &name, &value);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_finds_an_agent_that_registered_and_the_next_leader_tells_it_too() {
    let scene = scene().await;
    scene.stage.orchestrator.kill_leader(Duration::ZERO).await;
    let ended = scene.run(scene.command_with("pre-failover", &[], FORGET)).await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(ended.text.contains("every ProxySQL has the fence"), "{}", ended.text);
    assert!(scene.agent_log().contains("registered at Orchestrator"), "{}", scene.agent_log());
    assert!(!scene.agent_log().contains("on this host only"), "{}", scene.agent_log());
    assert!(scene.stage.is_fenced("node01") && scene.stage.runtime().contains("[stonith:1 barrier was=ONLINE]"));
    let ended = scene.run(scene.command_with("post-unsuccessful-failover", &[], FORGET)).await;
    assert_eq!(ended.code, 0, "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_takeover_drains_at_an_agent_that_registered() {
    let scene = scene().await;
    let ended = scene.run(scene.command_with("pre-graceful-takeover", &[], FORGET)).await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(ended.text.contains("every ProxySQL is drained"), "{}", ended.text);
    assert!(ended.text.contains(&format!("agent=http://{}", scene.agent)), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_registered_and_does_not_answer_is_waited_for_like_one_of_the_config() {
    let scene = scene().await;
    let (_listener, silent) = hung();
    register(&scene, &format!("http://{silent}").parse().unwrap(), now_s(), TOKEN);
    let ended = scene.run(scene.command_with("pre-failover", &[], STRICT)).await;
    assert_eq!(ended.code, 1, "{}", ended.text);
    assert!(ended.text.contains(&format!("agent http://{silent}: no answer")), "{}", ended.text);
    assert!(!ended.text.contains(&format!("agent http://{}: ", scene.agent)), "the other one fences: {}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_agent_that_is_forgotten() {
    let scene = scene().await;
    let (listener, forgotten) = hung();
    register(&scene, &format!("http://{forgotten}").parse().unwrap(), now_s() - 3_700, TOKEN);
    let ended = scene.run(scene.command_with("pre-failover", &[], STRICT)).await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    assert!(ended.text.contains("every ProxySQL has the fence"), "{}", ended.text);
    assert!(ended.text.contains(&forgotten.to_string()), "it is named: {}", ended.text);
    assert!(is_alone(&listener));
}

/// Whether nobody has connected.
fn is_alone(listener: &std::net::TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_not_signed_gets_no_token_and_is_taken_for_an_agent_that_does_not_answer() {
    let scene = scene().await;
    let (listener, stranger) = hung();
    register(&scene, &format!("http://{stranger}").parse().unwrap(), now_s(), "another token");
    let ended = scene.run(scene.command_with("pre-failover", &[], STRICT)).await;
    assert_eq!(ended.code, 1, "{}", ended.text);
    assert!(ended.text.contains("not signed with the token of barrier.token_file"), "{}", ended.text);
    assert!(ended.text.contains(&stranger.to_string()) && is_alone(&listener), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_registered_the_hook_waits_as_for_an_agent_that_does_not_answer() {
    let scene = scene().await;
    scene.stage.orchestrator.clear_tags();
    let ended = scene.run(scene.command_with("pre-failover", &[], STRICT)).await;
    assert_eq!(ended.code, 1, "{}", ended.text);
    assert!(ended.text.contains("no agent is registered at node01:3306"), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_forget_after_the_hook_asks_nobody_who_registered() {
    let scene = scene().await;
    let ended = scene.run(scene.command_with("pre-failover", &[], "deadline = \"5s\"")).await;
    assert_eq!(ended.code, 0, "{}", ended.text);
    let asked = scene.stage.orchestrator.requests();
    assert!(!asked.iter().any(|path| path.starts_with("tags/")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_on_an_orchestrator_host_asks_who_registered_and_names_who_is_missing() {
    let scene = scene().await;
    let hook = scene.command_with("pre-failover", &[], FORGET);
    let config = hook.get_args().last().unwrap().to_str().unwrap().to_owned();
    let (text, _) = scene.stage.stonith(&format!("doctor {config}")).await;
    for label in ["no-agent-registered", "agent-unreached", "agent-refuses", "agent-forgotten", "registration-"] {
        assert!(!text.contains(label), "{text}");
    }
    let (_listener, silent) = hung();
    register(&scene, &format!("http://{silent}").parse().unwrap(), now_s(), TOKEN);
    register(&scene, &"http://10.0.0.8:9632".parse().unwrap(), now_s() - 90_000, TOKEN);
    register(&scene, &"http://10.0.0.9:9632".parse().unwrap(), now_s(), "another token");
    let (text, _) = scene.stage.stonith(&format!("doctor {config}")).await;
    for (label, names) in [
        ("agent-unreached", silent.to_string()),
        ("agent-forgotten", "http://10.0.0.8:9632 registered at node01:3306, and was last seen 1day 1h".to_owned()),
        ("registration-refused", "proxysql-stonith:10.0.0.9:9632 at node01:3306".to_owned()),
    ] {
        let is_told = |line: &str| line.contains(&format!("[{label}]")) && line.contains(&names);
        assert!(text.lines().any(is_told), "{label}: {text}");
    }
    assert!(!text.contains(TOKEN), "i11: {text}");
    scene.stage.fail_over().await;
    scene.stage.orchestrator.clear_tags();
    let (text, _) = scene.stage.stonith(&format!("doctor {config}")).await;
    assert!(text.contains("[no-agent-registered]") && text.contains("at the primary node02:3306"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_only_this_host_reaches_is_told_at_the_start() {
    let agent = "http.register_as = \"http://10.0.0.7:9632\"\n";
    let scene = Scene::with(orchestrator::Settings::default(), agent).await;
    let told = "http.listen answers on this host only";
    eventually("it is registered", || !scene.stage.orchestrator.tags("node01").is_empty()).await;
    let log = scene.agent_log();
    assert!(log.contains(told) && log.contains("agent=http://10.0.0.7:9632"), "{log}");
}
