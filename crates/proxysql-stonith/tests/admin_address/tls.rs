//! TLS to the admin interface: who can't prove to be ProxySQL hears neither the user nor a proof of the password.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proxysql_stonith::proxysql::{Admin, AdminError, ServerCheck, Settings, Tls};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::pki::{EXPIRED, NOT_YET_VALID, Pki, VALID};
use crate::server::{
    FULL, Fake, NATIVE, PROVED, SHA2, Talk, WITH_TLS, WITHOUT_TLS, is_proof_of_the_password,
    is_sha2_proof_of_the_password,
};
use crate::{PASSWORD, settings};

const HOST: &str = "127.0.0.1";

fn trusting(pki: &Pki, host: &str, check: ServerCheck, port: u16) -> Settings {
    Settings { tls: Some(Tls::new(check, Some(&pki.ca_file()), "ProxySQL").unwrap()), ..settings(host, port) }
}

/// A certificate as ProxySQL makes its own: for no name.
fn nameless(pki: &Pki) -> Arc<ServerConfig> {
    pki.serving_names(&[], VALID, false)
}

fn refused_for(error: &AdminError, says: &[&str]) {
    let text = error.to_string();
    assert!(matches!(error, AdminError::Tls { .. }), "{text}");
    assert!(says.iter().all(|says| text.contains(says)), "{text}");
}

#[tokio::test]
async fn d1_where_tls_is_asked_for_a_server_that_offers_none_hears_nothing_at_all() {
    let fake = Fake::start(|mut talk| {
        talk.greet(WITHOUT_TLS, NATIVE);
        talk.rest()
    });
    let error = Admin::connect(&trusting(&Pki::new(), HOST, ServerCheck::Ca, fake.port)).await.unwrap_err();
    assert_eq!(fake.end(), b"");
    refused_for(&error, &["it offers no TLS", "mysql-have_ssl"]);
}

/// A fake that serves TLS with this: whether a login came.
fn over_tls(config: Arc<ServerConfig>) -> Fake<bool> {
    Fake::start(move |mut talk| {
        talk.greet(WITH_TLS, NATIVE);
        let mut talk = talk.over_tls(config);
        if talk.stream.conn.complete_io(&mut talk.stream.sock).is_err() {
            return false;
        }
        // The alert of a client that refuses comes after the handshake of TLS 1.3.
        let Some(login) = talk.try_login() else { return false };
        assert!(is_proof_of_the_password(&login.proof));
        talk.done();
        talk.statement().expect("a statement");
        talk.done();
        true
    })
}

#[tokio::test]
async fn a_ca_that_was_replaced_is_read_again() {
    let (pki, before) = (Pki::new(), Pki::new());
    let mut trusting = trusting(&before, HOST, ServerCheck::Ca, over_tls(nameless(&pki)).port);
    let fakes = [over_tls(nameless(&pki)), over_tls(nameless(&pki)), over_tls(nameless(&pki))];
    let mut connect = async |port: u16, read_again: bool| {
        trusting.address.port = port;
        if read_again {
            trusting.tls.as_mut().unwrap().read_again();
        }
        Admin::connect(&trusting).await.is_ok()
    };
    assert!(!connect(fakes[0].port, true).await);
    std::fs::copy(pki.ca_file(), before.ca_file()).unwrap();
    assert!(!connect(fakes[1].port, false).await, "the control");
    assert!(connect(fakes[2].port, true).await);
}

#[tokio::test]
async fn d1_a_certificate_of_another_ca_for_another_name_or_of_another_time_gets_no_login() {
    let (ours, another) = (Pki::new(), Pki::new());
    let serving = |pki: &Pki, name: &str, years| pki.serving(name, years, false);
    for (check, config, advice) in [
        (ServerCheck::Ca, serving(&another, HOST, VALID), "proxysql-ca.pem"),
        (ServerCheck::Identity, serving(&another, HOST, VALID), "proxysql-ca.pem"),
        (ServerCheck::Identity, serving(&ours, "proxy1", VALID), "verify-ca"),
        (ServerCheck::Identity, nameless(&ours), "verify-ca"),
        (ServerCheck::Ca, serving(&ours, HOST, EXPIRED), "PROXYSQL RELOAD TLS"),
        (ServerCheck::Identity, serving(&ours, HOST, EXPIRED), "PROXYSQL RELOAD TLS"),
        (ServerCheck::Ca, serving(&ours, HOST, NOT_YET_VALID), "host's clock"),
    ] {
        let fake = over_tls(config);
        let error = Admin::connect(&trusting(&ours, HOST, check, fake.port)).await.unwrap_err();
        assert!(!fake.end(), "{check:?}: it logged in");
        refused_for(&error, &["certificate", advice]);
    }
}

/// The control of the above.
#[tokio::test]
async fn a_certificate_that_proves_what_is_asked_for_is_logged_in_to() {
    let pki = Pki::new();
    for (host, check, names) in [
        (HOST, ServerCheck::Ca, &[][..]),
        (HOST, ServerCheck::Ca, &["proxy1"][..]),
        (HOST, ServerCheck::Identity, &[HOST][..]),
        ("localhost", ServerCheck::Identity, &["localhost"][..]),
    ] {
        let fake = over_tls(pki.serving_names(names, VALID, false));
        let mut admin = Admin::connect(&trusting(&pki, host, check, fake.port)).await.unwrap();
        admin.query("SELECT 1").await.unwrap();
        assert!(fake.end(), "{check:?}");
    }
}

#[tokio::test]
async fn what_is_said_in_the_clear_before_tls_begins_is_not_taken_for_said_over_it() {
    let pki = Pki::new();
    let config = nameless(&pki);
    let fake = Fake::start(move |mut talk| {
        // One piece, so that it is there when the greeting is read.
        let mut bytes = Vec::new();
        let mut both = Talk { stream: std::io::Cursor::new(&mut bytes), next: 0 };
        both.greet(WITH_TLS, NATIVE);
        both.say(&[0, 0, 0, 2, 2, 0, 0]);
        talk.raw(&bytes);
        talk.next = 1;
        let _ = talk.hear();
        drop(config);
        talk.rest()
    });
    let error = Admin::connect(&trusting(&pki, HOST, ServerCheck::Ca, fake.port)).await.unwrap_err();
    assert_eq!(fake.end(), b"", "no handshake, no login");
    assert!(error.to_string().contains("in the clear"), "{error}");
}

/// A fake that greets with caching_sha2_password over TLS, and what it heard after the login.
fn sha2_over_tls<T: Send + 'static>(
    config: Arc<ServerConfig>,
    script: impl FnOnce(Talk<StreamOwned<ServerConnection, TcpStream>>) -> T + Send + 'static,
) -> Fake<T> {
    Fake::start(move |mut talk| {
        talk.greet(WITH_TLS, SHA2);
        let mut talk = talk.over_tls(config);
        let login = talk.login();
        assert!(login.plugin == SHA2 && is_sha2_proof_of_the_password(&login.proof), "{login:?}");
        script(talk)
    })
}

#[tokio::test]
async fn over_tls_caching_sha2_password_is_answered_and_the_password_given_only_where_it_is_asked_for() {
    let pki = Pki::new();
    for asks in [PROVED, FULL] {
        let fake = sha2_over_tls(nameless(&pki), move |mut talk| {
            talk.say(asks);
            let given = if asks == FULL { talk.hear() } else { None };
            talk.done();
            talk.statement().expect("a statement");
            talk.done();
            given
        });
        let mut admin = Admin::connect(&trusting(&pki, HOST, ServerCheck::Ca, fake.port)).await.unwrap();
        admin.query("SELECT 1").await.unwrap();
        let password = [PASSWORD.as_bytes(), b"\0"].concat();
        assert_eq!(fake.end(), (asks == FULL).then_some(password));
    }
}

#[tokio::test]
async fn over_tls_the_password_is_given_once_and_not_to_a_server_that_asked_for_another_plugin() {
    let pki = Pki::new();
    let ends = async |fake: Fake<Option<Vec<u8>>>, what: &str| {
        let error = Admin::connect(&trusting(&pki, HOST, ServerCheck::Ca, fake.port)).await.unwrap_err();
        assert!(matches!(&error, AdminError::Asks { asked, .. } if asked.contains(what)), "{error}");
        assert_eq!(fake.end(), None);
    };
    let twice = sha2_over_tls(nameless(&pki), |mut talk| {
        talk.say(FULL);
        talk.hear().expect("the password");
        talk.say(FULL);
        talk.hear()
    });
    ends(twice, SHA2).await;
    let switched = sha2_over_tls(nameless(&pki), |mut talk| {
        talk.switch(NATIVE);
        assert!(is_proof_of_the_password(&talk.hear().expect("a proof")));
        talk.say(FULL);
        talk.hear()
    });
    ends(switched, SHA2).await;
    for plugin in ["mysql_clear_password", SHA2] {
        let to_another = sha2_over_tls(nameless(&pki), move |mut talk| {
            talk.switch(plugin);
            talk.say(FULL);
            talk.hear()
        });
        ends(to_another, plugin).await;
    }
    let config = nameless(&pki);
    let greeted_with_native = Fake::start(move |mut talk| {
        talk.greet(WITH_TLS, NATIVE);
        let mut talk = talk.over_tls(config);
        assert!(is_proof_of_the_password(&talk.login().proof));
        talk.say(FULL);
        talk.hear()
    });
    ends(greeted_with_native, SHA2).await;
}

/// From the config file to the wire, by the program itself.
#[test]
fn d1_the_program_checks_who_answers_as_its_config_says() {
    let pki = Pki::new();
    let plan = |tls: &str, port: u16| {
        let file = pki.ca_file().with_file_name("stonith.toml");
        let text = format!(
            "[orchestrator]\nendpoints = [\"http://127.0.0.1:9\"]\n[run]\nstate_dir = \"state\"\n\
             [[proxysql]]\naddress = \"127.0.0.1:{port}\"\nuser = \"radmin\"\npassword = \"{PASSWORD}\"\n{tls}"
        );
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        run(&file)
    };
    let silent = || {
        Fake::start(|mut talk| {
            talk.greet(WITHOUT_TLS, NATIVE);
            talk.rest().len()
        })
    };
    for mode in ["verify-ca", "verify-identity"] {
        let fake = silent();
        let (code, said) = plan(&format!("tls = \"{mode}\"\nca_file = \"ca.pem\"\n"), fake.port);
        assert_eq!((code, fake.end()), (1, 0), "{said}");
        assert!(said.contains("it offers no TLS") && !said.contains(PASSWORD), "{said}");
    }
    // A certificate that carries no name is enough for the one and not for the other.
    for (mode, logs_in) in [("verify-ca", true), ("verify-identity", false)] {
        let fake = over_tls(nameless(&pki));
        let (code, said) = plan(&format!("tls = \"{mode}\"\nca_file = \"ca.pem\"\n"), fake.port);
        assert_eq!((code, fake.end()), (1, logs_in), "{mode}: {said}");
    }
    // The control: without TLS in the config it logs in.
    let fake = Fake::start(|mut talk| {
        talk.greet(WITHOUT_TLS, NATIVE);
        is_proof_of_the_password(&talk.login().proof)
    });
    let (code, said) = plan("", fake.port);
    assert_eq!((code, fake.end()), (1, true), "{said}");
    let (code, said) = plan("tls = \"verify-ca\"\nca_file = \"absent.pem\"\n", 1);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("absent.pem"), "{said}");
}

#[must_use = "it may have failed"]
fn run(config: &Path) -> (i32, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    let ran = program.env_clear().arg("plan").arg("--config").arg(config).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.code().unwrap(), String::from_utf8(said).unwrap())
}
