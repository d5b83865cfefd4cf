//! Answers that are too much, or none: an error, within the byte budget, and the connection is over.

use std::time::{Duration, Instant};

use proxysql_stonith::proxysql::{Admin, AdminError, Settings};

use crate::server::{Fake, Talk};
use crate::settings;

/// Asks once, and once more on the same connection.
async fn ask<T: Send + 'static>(
    script: impl FnOnce(&mut Talk) -> T + Send + 'static,
) -> (T, Result<proxysql_stonith::proxysql::Answer, AdminError>) {
    let fake = Fake::start(|mut talk| {
        talk.let_in();
        let came_to = script(&mut talk);
        if talk.hear().is_some() {
            talk.done();
        }
        came_to
    });
    let mut admin = Admin::connect(&settings("127.0.0.1", fake.port)).await.unwrap();
    let answer = admin.query("SELECT * FROM main.mysql_servers").await;
    let again = admin.query("SELECT 2").await;
    match &answer {
        Ok(_) | Err(AdminError::Refused { .. }) => drop(again.expect("it goes on")),
        Err(_) => assert!(matches!(again, Err(AdminError::Lost { .. })), "nobody reads the rest as another's answer"),
    }
    admin.close().await;
    (fake.end(), answer)
}

fn too_much<T>(answer: Result<T, AdminError>) {
    let error = answer.err().expect("too much");
    assert!(matches!(error, AdminError::TooMuch { .. }) && error.to_string().contains("64 MiB"), "{error}");
}

fn lost<T>(answer: Result<T, AdminError>, says: &str) {
    let error = answer.err().expect("no sense").to_string();
    assert!(error.contains("did not answer") && error.contains(says), "{error}");
}

/// Says it for as long as the client listens: how many bytes it took.
fn on_and_on(talk: &mut Talk, payload: &[u8]) -> usize {
    let mut said = 0;
    while talk.say_often(payload, 1_024) {
        said += payload.len() * 1_024;
        assert!(said < 1 << 30, "it takes everything");
    }
    said
}

#[tokio::test]
async fn d8_records_without_end_are_given_up_within_the_budget() {
    // Of a text each, and of 200 NULLs each: a NULL is one byte here and 24 in memory.
    let text = [&[0xfc, 0xe8, 3][..], &[b'x'; 1_000]].concat();
    for (columns, record, most_mib) in [(1, text, 64), (200, vec![0xfb; 200], 2)] {
        let (said, answer) = ask(move |talk| {
            talk.columns(&vec!["a"; columns]);
            on_and_on(talk, &record)
        })
        .await;
        too_much(answer);
        // What the sockets hold comes on top.
        assert!((1 << 19..(most_mib + 8) << 20).contains(&said), "{said} bytes were taken of {columns} columns");
    }
}

#[tokio::test]
async fn d8_one_value_without_end_is_given_up_within_the_budget() {
    let (pieces, answer) = ask(|talk| {
        talk.columns(&["a"]);
        let piece = vec![b'x'; 0xff_ffff];
        (0..64).take_while(|_| talk.say_often(&piece, 1)).count()
    })
    .await;
    too_much(answer);
    assert!((3..6).contains(&pieces), "{pieces} pieces of 16 MiB");
}

/// Each byte that is not UTF-8 is a character of four here.
#[tokio::test]
async fn d8_bytes_that_grow_when_they_are_read_count_as_what_they_become() {
    for (byte, fits) in [(b'x', true), (0xfc, false)] {
        let ((), answer) = ask(move |talk| {
            talk.columns(&["a"]);
            let mut record = b"\xfe\x00\x2d\x31\x01\0\0\0\0".to_vec();
            record.resize(record.len() + 20_000_000, byte);
            record.chunks(0xff_ffff).for_each(|piece| talk.say(piece));
            talk.end_of_set();
        })
        .await;
        if fits { drop(answer.unwrap()) } else { too_much(answer) }
    }
}

#[tokio::test]
async fn a_statement_of_two_packets_is_sent_whole() {
    let fake = Fake::start(|mut talk| {
        talk.let_in();
        talk.done();
        let pieces = [talk.hear().unwrap(), talk.hear().unwrap()];
        talk.done();
        pieces.map(|piece| piece.len())
    });
    let mut admin = Admin::connect(&settings("127.0.0.1", fake.port)).await.unwrap();
    admin.query("SELECT 1").await.unwrap();
    admin.query(&"x".repeat(17_000_000)).await.unwrap();
    assert_eq!(fake.end(), [0xff_ffff, 17_000_001 - 0xff_ffff]);
}

#[tokio::test]
async fn a_value_of_two_packets_comes_whole() {
    for (head, size) in [(&b"\xfd\xfb\xff\xff"[..], 0xff_fffb), (b"\xfe\x00\x2d\x31\x01\0\0\0\0", 20_000_000)] {
        let ((), answer) = ask(move |talk| {
            talk.columns(&["a"]);
            let mut record = head.to_vec();
            record.resize(record.len() + size, b'x');
            for piece in record.chunks(0xff_ffff) {
                talk.say(piece);
            }
            if record.len() % 0xff_ffff == 0 {
                talk.say(b"");
            }
            talk.end_of_set();
        })
        .await;
        let records = answer.unwrap().records;
        assert_eq!(records[0][0].as_ref().map(String::len), Some(size));
    }
}

#[tokio::test]
async fn more_columns_than_any_table_has_are_given_up_before_there_is_room_for_them() {
    let wide = |count: u64| [&[0xfe][..], &count.to_le_bytes()].concat();
    for count in [wide(1 << 32), wide(u64::MAX), wide(1 << 40), vec![0xfd, 0xff, 0xff, 0xff], vec![0xfc, 1, 1]] {
        let ((), answer) = ask(move |talk| talk.say(&count)).await;
        too_much(answer);
    }
}

#[tokio::test]
async fn a_packet_that_announces_16_mib_and_never_comes_is_a_lost_connection() {
    for head in [[0xfe, 0xff, 0xff, 1], [0xff, 0xff, 0xff, 1]] {
        let ((), answer) = ask(move |talk| {
            talk.raw(&head);
            talk.raw(b"xx");
            talk.stream.shutdown(std::net::Shutdown::Write).unwrap();
        })
        .await;
        lost(answer, "the connection was closed");
    }
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_given_up_in_time() {
    let fake = Fake::start(|mut talk| {
        talk.let_in();
        talk.columns(&["a"]);
        talk.rest()
    });
    let hasty = Settings { timeout: Duration::from_millis(500), ..settings("127.0.0.1", fake.port) };
    let mut admin = Admin::connect(&hasty).await.unwrap();
    let began = Instant::now();
    let answer = admin.query("SELECT * FROM main.mysql_servers").await;
    assert!(began.elapsed() >= hasty.timeout && began.elapsed() < hasty.timeout * 10, "{:?}", began.elapsed());
    lost(answer, "no answer within 500ms");
    lost(admin.query("SELECT 2").await, "the connection was lost before");
    drop(admin);
    assert_eq!(fake.end(), b"", "nothing was asked on it any more");
}

#[tokio::test]
async fn texts_that_are_longer_than_their_packet_make_no_sense() {
    let values: [&[u8]; 5] = [b"", b"\x05x", b"\xfc", b"\xfd\xff\xff\xffx", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff"];
    for value in values {
        let ((), answer) = ask(move |talk| {
            talk.columns(&["a"]);
            talk.say(value);
        })
        .await;
        lost(answer, "it ends too early");
    }
    let ((), answer) = ask(|talk| {
        talk.columns(&["a"]);
        talk.say(&[1, b'x', 1, b'y']);
    })
    .await;
    lost(answer, "it goes on behind its end");
}

#[tokio::test]
async fn what_was_not_asked_for_makes_no_sense() {
    type Script = fn(&mut Talk);
    let scripts: [(Script, &str); 7] = [
        (|talk| talk.say(b"\xfb/etc/shadow"), "a file of this host"),
        (|talk| talk.say(&[0, 0, 0, 0x0a, 2, 0, 0]), "a second answer"),
        (|talk| talk.say(b""), "it ends too early"),
        (|talk| talk.say(&[1, 0]), "it goes on behind its end"),
        (
            |talk| {
                talk.next = 7;
                talk.done();
            },
            "not its turn",
        ),
        (
            |talk| {
                talk.say(&[1]);
                talk.column("a");
                talk.column("b");
            },
            "the columns have no end",
        ),
        (
            |talk| {
                talk.say(&[1]);
                talk.say(&[200, b'd']);
            },
            "it ends too early",
        ),
    ];
    for (script, says) in scripts {
        let ((), answer) = ask(script).await;
        lost(answer, says);
    }
}

/// The control of all of the above: what makes sense is read, and the connection goes on.
#[tokio::test]
async fn an_answer_and_a_refusal_are_read_and_the_connection_goes_on() {
    let ((), answer) = ask(|talk| {
        talk.columns(&["a", "b"]);
        talk.say(b"\x01x\xfb");
        talk.say(b"\x00\x02\xC3\xA9");
        talk.end_of_set();
    })
    .await;
    let answer = answer.unwrap();
    assert_eq!(answer.columns, ["a", "b"]);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(answer.records, [[text("x"), None], [text(""), text("é")]]);
    for is_in_the_middle in [false, true] {
        let ((), answer) = ask(move |talk| {
            if is_in_the_middle {
                talk.columns(&["a"]);
                talk.say(b"\x01x");
            }
            talk.say(b"\xff\x15\x04#28000ProxySQL Admin Error: no such table: x");
        })
        .await;
        let error = answer.unwrap_err();
        assert!(matches!(&error, AdminError::Refused { cause, .. } if cause.ends_with("no such table: x")), "{error}");
    }
}
