//! What a server gets that asks for more than ProxySQL asks for.

use proxysql_stonith::proxysql::{Admin, AdminError};

use crate::server::{FULL, Fake, Login, NATIVE, Talk, WITHOUT_TLS, is_proof_of_the_password};
use crate::settings;

/// The key that a server of caching_sha2_password offers to encrypt the password with.
const KEY: &[u8] = b"\x01-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK\n-----END PUBLIC KEY-----\n";

/// Connects to a fake that must not succeed: what it heard, and the error.
async fn refused<T: Send + 'static>(script: impl FnOnce(Talk) -> T + Send + 'static) -> (T, AdminError) {
    let fake = Fake::start(script);
    let error = Admin::connect(&settings("127.0.0.1", fake.port)).await.expect_err("it must not be trusted");
    (fake.end(), error)
}

/// That it was given up for what was asked, and how it is said.
fn asked(error: &AdminError, what: &str) {
    let text = error.to_string();
    assert!(matches!(error, AdminError::Asks { asked, .. } if asked.contains(what)), "{text}");
    let advice = ["mysql_native_password", "admin port", "set tls = \"verify-ca\" and ca_file"];
    assert!(text.contains(what) && advice.iter().all(|advice| text.contains(advice)), "{text}");
}

fn without_proof() -> Login {
    Login { proof: Vec::new(), plugin: NATIVE.to_owned() }
}

#[tokio::test]
async fn d1_a_server_that_greets_with_caching_sha2_password_and_offers_an_rsa_key_gets_nothing_of_the_password() {
    let ((login, rest), error) = refused(|mut talk| {
        talk.greet(WITHOUT_TLS, "caching_sha2_password");
        let login = talk.login();
        talk.say(FULL);
        talk.say(KEY);
        (login, talk.rest())
    })
    .await;
    assert_eq!((login, rest), (without_proof(), Vec::new()));
    asked(&error, "caching_sha2_password");
}

#[tokio::test]
async fn d1_a_server_that_switches_to_another_plugin_gets_nothing_in_answer() {
    for plugin in [
        "caching_sha2_password",
        "sha256_password",
        "mysql_clear_password",
        "mysql_old_password",
        "dialog",
        "client_ed25519",
        "parsec",
        "",
        "mysql_native_password2",
    ] {
        for greets_with in [NATIVE, plugin] {
            let greets_with = greets_with.to_owned();
            let ((proof, rest), error) = refused(move |mut talk| {
                talk.greet(WITHOUT_TLS, &greets_with);
                let login = talk.login();
                talk.switch(plugin);
                talk.say(FULL);
                talk.say(KEY);
                (login.proof, talk.rest())
            })
            .await;
            assert!(proof.is_empty() || is_proof_of_the_password(&proof), "{plugin}");
            assert!(rest.is_empty(), "{plugin}: {rest:?}");
            asked(&error, plugin);
        }
    }
}

#[tokio::test]
async fn d1_a_server_that_goes_on_as_caching_sha2_password_after_the_right_greeting_or_switch_gets_no_more() {
    for is_switched in [false, true] {
        let (rest, error) = refused(move |mut talk| {
            talk.greet(WITHOUT_TLS, NATIVE);
            talk.login();
            if is_switched {
                talk.switch(NATIVE);
                assert!(is_proof_of_the_password(&talk.hear().expect("a proof")));
            }
            talk.say(FULL);
            talk.say(KEY);
            talk.rest()
        })
        .await;
        assert!(rest.is_empty(), "{rest:?}");
        asked(&error, "caching_sha2_password");
    }
    let (rest, error) = refused(|mut talk| {
        talk.greet(WITHOUT_TLS, NATIVE);
        talk.login();
        talk.say(&[0xfe]);
        talk.rest()
    })
    .await;
    assert!(rest.is_empty());
    asked(&error, "mysql_old_password");
}

#[tokio::test]
async fn d1_a_server_that_switches_again_and_again_gets_one_proof() {
    let (rest, error) = refused(|mut talk| {
        talk.greet(WITHOUT_TLS, "caching_sha2_password");
        talk.login();
        talk.switch(NATIVE);
        talk.hear().expect("a proof");
        talk.switch(NATIVE);
        talk.rest()
    })
    .await;
    assert!(rest.is_empty() && matches!(error, AdminError::Connect { .. }), "{error}");
}

/// The control of the above. ProxySQL 2.6 and later greet so where `mysql-default_authentication_plugin` says it.
#[tokio::test]
async fn a_server_that_greets_with_caching_sha2_password_and_switches_as_proxysql_does_is_logged_in_to() {
    let fake = Fake::start(|mut talk| {
        talk.greet(WITHOUT_TLS, "caching_sha2_password");
        let login = talk.login();
        talk.switch(NATIVE);
        let proof = talk.hear().expect("a proof");
        talk.done();
        let statement = talk.statement();
        talk.done();
        (login, proof, statement, talk.rest())
    });
    let mut admin = Admin::connect(&settings("127.0.0.1", fake.port)).await.unwrap();
    admin.query("SELECT 1").await.unwrap();
    admin.close().await;
    let (login, proof, statement, rest) = fake.end();
    assert_eq!((login, statement.as_deref()), (without_proof(), Some("SELECT 1")));
    assert!(is_proof_of_the_password(&proof));
    assert_eq!(rest, [1, 0, 0, 0, 1], "the goodbye");
}

#[tokio::test]
async fn a_refusal_in_the_greeting_or_after_the_login_is_shown_in_the_servers_words() {
    let words = b"\xff\x15\x04#28000ProxySQL Error: Access denied \x1b[31m for\r\nyou";
    for is_greeted in [true, false] {
        let (rest, error) = refused(move |mut talk| {
            if is_greeted {
                talk.greet(WITHOUT_TLS, NATIVE);
                talk.login();
            }
            talk.say(words);
            talk.rest()
        })
        .await;
        let text = error.to_string();
        assert!(rest.is_empty() && matches!(error, AdminError::AccessDenied { .. }), "{text}");
        assert!(text.contains("Access denied") && !text.contains(char::is_control), "{text}");
    }
}

/// The server would read what follows the name's end as something else.
#[tokio::test]
async fn a_user_with_a_zero_byte_is_not_sent() {
    let fake = Fake::start(|mut talk| {
        talk.greet(WITHOUT_TLS, NATIVE);
        talk.rest()
    });
    let mut settings = settings("127.0.0.1", fake.port);
    settings.credential.user = "radmin\0\0".to_owned();
    let error = Admin::connect(&settings).await.unwrap_err();
    assert!(error.to_string().contains("zero byte"), "{error}");
    assert_eq!(fake.end(), b"");
}

#[tokio::test]
async fn a_server_that_lacks_protocol_4_1_the_proof_of_it_or_plugins_gets_no_login() {
    for lacks in [0x200, 0x8000, 0x8_0000] {
        let (rest, error) = refused(move |mut talk| {
            talk.greet(WITHOUT_TLS & !lacks, NATIVE);
            talk.rest()
        })
        .await;
        assert_eq!(rest, b"", "{lacks:x}");
        assert!(error.to_string().contains("older than 4.1"), "{lacks:x}: {error}");
    }
}
