//! `localhost` is 127.0.0.1, as where two spellings of one ProxySQL are compared.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use proxysql_stonith::proxysql::{Admin, AdminError};

use crate::settings;

/// Two listeners on one port: on 127.0.0.1, and on `::1`.
fn both() -> (TcpListener, TcpListener) {
    loop {
        let on_v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        match TcpListener::bind((Ipv6Addr::LOCALHOST, on_v4.local_addr().unwrap().port())) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            on_v6 => return (on_v4, on_v6.unwrap()),
        }
    }
}

fn nobody_came(squatter: &TcpListener) {
    squatter.set_nonblocking(true).unwrap();
    assert_eq!(squatter.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_localhost_is_not_the_one_who_listens_on_the_other_loopback_address() {
    let (proxysql, squatter) = both();
    let port = squatter.local_addr().unwrap().port();
    let connecting = tokio::spawn(async move { Admin::connect(&settings("localhost", port)).await });
    drop(proxysql.accept().unwrap());
    assert!(matches!(connecting.await.unwrap(), Err(AdminError::Connect { .. })), "it was hung up on");
    nobody_came(&squatter);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_localhost_is_not_the_squatter_while_proxysql_is_down_either() {
    let (proxysql, squatter) = both();
    drop(proxysql);
    let port = squatter.local_addr().unwrap().port();
    let error = Admin::connect(&settings("localhost", port)).await.unwrap_err();
    assert!(matches!(error, AdminError::Connect { .. }), "{error}");
    nobody_came(&squatter);
    // The control: it is there, for whoever names it.
    let connecting = tokio::spawn(async move { Admin::connect(&settings("::1", port)).await });
    squatter.set_nonblocking(false).unwrap();
    drop(squatter.accept().unwrap());
    assert!(connecting.await.unwrap().is_err());
}
