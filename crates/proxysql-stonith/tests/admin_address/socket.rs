//! The admin interface on a unix socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use proxysql_stonith::proxysql::{Admin, AdminError, Settings};
use proxysql_stonith::secret::{Credential, Secret};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};

use super::server::{FULL, Fake, SHA2, WITHOUT_TLS};
use super::settings;

/// A socket whose connections go on to a port.
async fn socket_before(to: SocketAddr) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (dir, path)
}

#[tokio::test]
async fn a_statement_goes_through_the_socket_and_nothing_to_the_address() {
    let nodes = lab::nodes::Nodes::new(&["node01"]);
    let proxysql = lab::proxysql::ProxySql::start(nodes, lab::proxysql::Settings::default()).await.unwrap();
    let (_dir, path) = socket_before(proxysql.address()).await;
    let credential = Credential { user: "radmin".to_owned(), password: Secret::new("radmin") };
    let through = Settings { socket: Some(path), credential, ..settings("127.0.0.1", 1) };
    let mut admin = Admin::connect(&through).await.unwrap();
    let answer = admin.query("SELECT count(*) FROM main.mysql_servers").await.unwrap();
    assert_eq!(answer.records, [vec![Some("0".to_owned())]]);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let missing = Settings { socket: Some("/nowhere/admin.sock".into()), ..settings("127.0.0.1", 6032) };
    let error = Admin::connect(&missing).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/admin.sock: No such file"), "{error}");
}

/// Whoever may write to the socket's directory can put another one in its place while ProxySQL is down. ProxySQL's default is
/// in /tmp.
#[tokio::test(flavor = "multi_thread")]
async fn d1_a_server_behind_a_socket_without_tls_gets_nothing_of_the_password_either() {
    let fake = Fake::start(|mut talk| {
        talk.greet(WITHOUT_TLS, SHA2);
        let login = talk.login();
        talk.say(FULL);
        (login.proof, talk.rest())
    });
    let (_dir, path) = socket_before((Ipv4Addr::LOCALHOST, fake.port).into()).await;
    let through = Settings { socket: Some(path), ..settings("127.0.0.1", 1) };
    let error = Admin::connect(&through).await.unwrap_err();
    assert!(matches!(error, AdminError::Asks { .. }), "{error}");
    assert_eq!(fake.end(), (Vec::new(), Vec::new()));
}
