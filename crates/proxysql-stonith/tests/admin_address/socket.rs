//! The admin interface on a unix socket.

use std::path::PathBuf;

use proxysql_stonith::proxysql::{Admin, Settings};
use proxysql_stonith::secret::{Credential, Secret};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};

use super::settings;

/// A socket whose connections go on to the lab's ProxySQL.
async fn socket_of(proxysql: &lab::proxysql::ProxySql) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let (listener, to) = (UnixListener::bind(&path).unwrap(), proxysql.address());
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
    let (_dir, path) = socket_of(&proxysql).await;
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
