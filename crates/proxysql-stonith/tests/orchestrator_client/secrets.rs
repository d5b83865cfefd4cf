//! Credentials are sent where they belong and shown nowhere (I11).

use crate::client::*;

#[tokio::test]
async fn i11_basic_auth_is_sent_and_is_in_no_debug_output_and_no_error() {
    const ENCODED: &str = "b3JjOmh1bnRlcjIwMTk=";
    let auth = Some(Credential { user: "orc".to_owned(), password: Secret::new("hunter2019") });
    let server = Server::start(|request| match request.head.contains(&format!("authorization: Basic {ENCODED}\r\n")) {
        true => well(1, 1, &request.path),
        false => Reply::Json(401, String::new()),
    });
    let mut client = Client::new(Settings { auth: auth.clone(), ..settings(&[server.url()]) }).unwrap();
    led(look(&mut client, NOTHING_MORE).await);
    let mut shown = vec![format!("{client:?}")];
    // A server that sends back what it was sent, and one that has the password in its redirect and its JSON.
    let echoes: [fn(&Request) -> Reply; 5] = [
        |request| Reply::Json(400, format!("{} hunter2019", request.head)),
        |request| Reply::Json(401, request.head.clone()),
        |_| Reply::bytes("HTTP/1.1 302 Found\r\nLocation: http://orc:hunter2019@x/\r\nContent-Length: 0\r\n\r\n"),
        |request| Reply::bytes(&request.head),
        |request| match request.path.as_str() {
            "/api/downtimed" => Reply::ok(serde_json::to_string(&[&request.head, "hunter2019"]).unwrap()),
            path => well(1, 1, path),
        },
    ];
    for echo in echoes {
        let server = Server::start(echo);
        let mut client = Client::new(Settings { auth: auth.clone(), ..settings(&[server.url()]) }).unwrap();
        shown.push(blind(look(&mut client, NOTHING_MORE).await));
        shown.push(format!("{client:?}"));
    }
    for text in shown {
        assert!(!text.contains("hunter2019") && !text.contains(ENCODED), "{text}");
    }
}

#[tokio::test]
async fn i11_a_password_is_not_shown_by_half_where_a_message_ends() {
    // Wherever the password stands in what is echoed, the end of what is shown cuts through it nowhere.
    let auth = Some(Credential { user: "orc".to_owned(), password: Secret::new("hunter2019") });
    for before in 190..205 {
        let server = Server::start(move |_| Reply::Json(400, format!("{}hunter2019", "x".repeat(before))));
        let mut client = Client::new(Settings { auth: auth.clone(), ..settings(&[server.url()]) }).unwrap();
        let why = blind(look(&mut client, NOTHING_MORE).await);
        assert!(!why.contains("xh"), "{why}");
    }
}

#[tokio::test]
async fn i11_a_password_with_a_quote_is_not_shown_as_json_spells_it_either() {
    let auth = Some(Credential { user: "orc".to_owned(), password: Secret::new("hun\"ter2019") });
    let server = Server::start(|_| Reply::Json(400, r#"{"x":"hun\"ter2019 and more"}"#.to_owned()));
    let mut client = Client::new(Settings { auth, ..settings(&[server.url()]) }).unwrap();
    let why = blind(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("and more") && !why.contains("ter2019"), "{why}");
}

#[tokio::test]
async fn i11_a_password_that_was_read_again_is_not_shown_either() {
    let server = Server::start(|request| Reply::Json(400, format!("{} {}", request.head, request.path)));
    let auth = |password: &str| Some(Credential { user: "orc".to_owned(), password: Secret::new(password) });
    let mut client = Client::new(Settings { auth: auth("hunter2019"), ..settings(&[server.url()]) }).unwrap();
    blind(look(&mut client, NOTHING_MORE).await);
    client.set_auth(auth("hunter2020"));
    let why = blind(look(&mut client, NOTHING_MORE).await);
    assert!(why.contains("authorization: Basic ***") && !why.contains("b3JjOmh1bnRlcjIwMjA="), "{why}");
}

#[tokio::test]
async fn a_password_that_was_read_again_is_sent_from_the_next_request_on() {
    let server = node(1, 1);
    let auth = |password: &str| Some(Credential { user: "orc".to_owned(), password: Secret::new(password) });
    let mut client = Client::new(Settings { auth: auth("hunter2019"), ..settings(&[server.url()]) }).unwrap();
    led(look(&mut client, NOTHING_MORE).await);
    let before = server.requests().len();
    client.set_auth(auth("hunter2020"));
    led(look(&mut client, NOTHING_MORE).await);
    let requests = server.requests();
    let (old, new) = requests.split_at(before);
    assert!(old.iter().all(|request| request.head.contains("Basic b3JjOmh1bnRlcjIwMTk=")), "{old:?}");
    assert!(new.iter().all(|request| request.head.contains("Basic b3JjOmh1bnRlcjIwMjA=")), "{new:?}");
}

#[tokio::test]
async fn proxy_variables_of_the_environment_are_ignored() {
    const URL: &str = "STONITH_TEST_ORCHESTRATOR_URL";
    // The test runs itself again, with the variables set.
    if let Ok(url) = std::env::var(URL) {
        led(look(&mut Client::new(settings(&[url])).unwrap(), NOTHING_MORE).await);
        return;
    }
    let (server, proxy) = (node(1, 1), hung());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "secrets::proxy_variables_of_the_environment_are_ignored"]).env(URL, server.url());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, proxy.url());
    }
    for name in ["no_proxy", "NO_PROXY"] {
        child.env_remove(name);
    }
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((server.connections(), proxy.connections()), (1, 0));
}
