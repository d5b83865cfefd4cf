//! Side questions, the history above all: slow, cut off or refused, they cost no lease (design §7).

use crate::client::*;

/// What can go wrong with a side question.
const FAILS: [fn() -> Reply; 5] = [
    || Reply::Hang,
    || Reply::Close,
    || error_500("2026-11-23 06:19:34 ERROR Unable to read"),
    || Reply::ok("<html>welcome</html>"),
    || Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n[{\"Key\":".to_vec()),
];

#[tokio::test]
async fn a_side_question_that_hangs_fails_or_is_cut_off_costs_no_lease_and_is_said() {
    for path in ["/api/audit-recovery/0", "/api/all-instances", "/api/raft-status"] {
        for fails in FAILS {
            let server = leader_but(path, fails);
            let mut client = client(&[&server]);
            for _ in 0..2 {
                let answer = led(look(&mut client, ALL).await);
                assert_eq!(answer.downtimes.len(), 1, "what fences is there");
                assert_eq!(answer.history.is_some(), path != "/api/audit-recovery/0");
                assert_eq!(answer.instances.is_some(), path != "/api/all-instances");
                let said = format!("{:?}", answer.skipped);
                assert!(said.contains(&path["/api/".len()..]) || said.contains("closes the connection"), "{said}");
            }
        }
    }
}

/// A history of so many records, the newest first; each page takes a while.
fn with_history(records: &Arc<AtomicUsize>, a_page: Duration) -> Server {
    let records = records.clone();
    let one: serde_json::Value = serde_json::from_str(&recorded("2-failover/audit-recovery")).unwrap();
    Server::start(move |request| {
        let Some(page) = request.path.strip_prefix("/api/audit-recovery/") else { return well(1, 1, &request.path) };
        let (page, all) = (page.parse::<usize>().unwrap(), records.load(Ordering::SeqCst));
        let made = (0..all).rev().skip(page * 20).take(20).map(|nth| {
            let mut record = one[0].clone();
            record["UID"] = format!("{}:x", 1_700_000_000_000_000_000 + nth as u64 * 1_000_000_000_000).into();
            record
        });
        Reply::After(a_page, Box::new(Reply::ok(serde_json::Value::Array(made.collect()).to_string())))
    })
}

fn pages(server: &Server, from: usize) -> Vec<String> {
    let requests = server.requests();
    requests[from..].iter().filter_map(|r| Some(r.path.strip_prefix("/api/audit-recovery/")?.to_owned())).collect()
}

#[tokio::test]
async fn a_history_of_a_year_is_read_in_pieces_within_seconds_and_then_only_what_is_new() {
    let records = Arc::new(AtomicUsize::new(900));
    let server = with_history(&records, Duration::from_millis(100));
    let mut client = client(&[&server]);
    let (mut known, mut seen, mut ticks) = (HistoryProgress::default(), std::collections::BTreeSet::new(), 0);
    loop {
        let start = Instant::now();
        let history = led(client.look(|| 42, |_, _| HISTORY, &known).await).history.unwrap();
        assert!(start.elapsed() < Duration::from_millis(600) + SLACK, "{:?}", start.elapsed());
        seen.extend(history.records.iter().map(|record| record.uid.clone()));
        known = history.progress.clone();
        ticks += 1;
        if history.is_whole() {
            break;
        }
        assert!(ticks < 20, "{known:?}");
    }
    assert_eq!(seen.len(), 900);
    assert!(ticks > 5, "control: in pieces");
    for more in [0, 1, 25] {
        records.fetch_add(more, Ordering::SeqCst);
        let before = server.requests().len();
        let history = led(client.look(|| 42, |_, _| HISTORY, &known).await).history.unwrap();
        assert!(history.is_whole() && history.records.len() >= more);
        known = history.progress;
        assert_eq!(pages(&server, before), (0..=more / 20).map(|page| page.to_string()).collect::<Vec<_>>(), "{more}");
    }
}

#[tokio::test]
async fn a_new_record_is_heard_at_once_while_the_rest_is_still_to_come() {
    let records = Arc::new(AtomicUsize::new(900));
    let server = with_history(&records, Duration::from_millis(100));
    let mut client = client(&[&server]);
    let history = led(client.look(|| 42, |_, _| HISTORY, &HistoryProgress::default()).await).history.unwrap();
    assert!(!history.is_whole());
    records.fetch_add(1, Ordering::SeqCst);
    let next = led(client.look(|| 42, |_, _| HISTORY, &history.progress).await).history.unwrap();
    let newest = |records: &[stonith_core::orchestrator::Recovery]| records.iter().map(|record| record.at_ns).max();
    assert!(newest(&next.records) > newest(&history.records));
    assert!(!next.is_whole());
}

#[tokio::test]
async fn at_least_two_pages_are_read_however_slow_the_first_is() {
    let server = with_history(&Arc::new(AtomicUsize::new(60)), Duration::from_millis(600));
    led(once(&[&server], HISTORY).await);
    assert_eq!(pages(&server, 0), ["0", "1"]);
}

#[tokio::test]
async fn a_page_that_does_not_come_leaves_what_was_read_before_it() {
    let records = Arc::new(AtomicUsize::new(60));
    let inner = with_history(&records, Duration::ZERO);
    let whole = led(client(&[&inner]).look(|| 42, |_, _| HISTORY, &HistoryProgress::default()).await).history.unwrap();
    assert!(whole.is_whole() && whole.records.len() == 60, "control");
    let full =
        serde_json::Value::Array(vec![
            serde_json::from_str::<serde_json::Value>(&recorded("2-failover/audit-recovery"))
                .unwrap()[0]
                .clone();
            20
        ]);
    let server = Server::start(move |request| match request.path.as_str() {
        "/api/audit-recovery/0" => Reply::ok(full.to_string()),
        path if path.starts_with("/api/audit-recovery/") => Reply::Hang,
        path => well(1, 1, path),
    });
    let history = led(once(&[&server], HISTORY).await).history.unwrap();
    assert_eq!((history.records.len(), history.progress.under_way.unwrap().next_page), (20, 1));
}

#[tokio::test]
async fn a_page_with_a_record_that_can_not_be_read_is_not_taken_for_the_last_one() {
    let one: serde_json::Value = serde_json::from_str(&recorded("2-failover/audit-recovery")).unwrap();
    let server = Server::start(move |request| {
        let Some(page) = request.path.strip_prefix("/api/audit-recovery/") else { return well(1, 1, &request.path) };
        let made = (0..30_u64).rev().skip(page.parse::<usize>().unwrap() * 20).take(20).map(|nth| {
            let mut record = one[0].clone();
            let at_ns = 1_700_000_000_000_000_000 + nth * 1_000_000_000_000;
            record["UID"] = if nth == 25 { "unreadable".into() } else { format!("{at_ns}:x").into() };
            record
        });
        Reply::ok(serde_json::Value::Array(made.collect()).to_string())
    });
    let answer = led(once(&[&server], HISTORY).await);
    assert_eq!((answer.history.unwrap().records.len(), answer.skipped.len()), (29, 1));
}
