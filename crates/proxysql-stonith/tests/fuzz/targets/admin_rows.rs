//! Answers of the admin interface, once they are rows of texts. An input is written as the stock client prints a table:
//! a line of columns, then records, tabs between the values, `NULL` for none.

use std::collections::BTreeMap;

use proxysql_stonith::proxysql::{Answer, answers};
use stonith_core::managed::Managed;
use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::policy::Policy;
use stonith_core::table::{CheckType, Hostgroup, Pair, SERVERS};

use super::decision::of_proxy;
use super::{may_be_said, owned};

const RECORDED: &str = include_str!("../../../../lab/tests/recordings/2-failover/proxysql.txt");

/// Every table of the recording, and the processlist with its extended info (code: MySQL_Session.cpp).
pub fn seeds() -> Vec<Vec<u8>> {
    let tables = RECORDED.split("-- ").skip(1).filter_map(|table| table.split_once('\n'));
    let mut seeds: Vec<Vec<u8>> = tables.map(|(_, table)| table.trim_end().as_bytes().to_vec()).collect();
    seeds.extend(owned(&[
        b"SessionID\thostgroup\tsrv_host\tsrv_port\tcommand\tdefault_hostgroup\textended_info\n7\t20\tnode02\t3306\tSleep\t10\t\
          {\"backends\":[{\"hostgroup_id\":10,\"conn\":{\"mysql\":{\"host\":\"127.0.1.1\",\"port\":3306}}},{\"hostgroup_id\":20,\
          \"conn\":null}]}\n8\t10\tNULL\tNULL\tQuery\tNULL\tNULL",
        b"extended\tstaged\n0\t2",
        b"hostgroup\tsrv_host\tsrv_port\tConnUsed\n10\tnode01\t3306\t2\n20\tnode01\t3306\t1",
        b"owner\texpired\nhost/1234\t0",
        b"owner\tleft\tunwanted\nhost/1234\t9\t-3",
        b"hostname\tport\trole\nnode01\t3306\treplica\nnode02\t3306\tprimary",
        b"hostname\tport\trecovery_ns\tdowntime_s\tordered_s\nnode01\t3306\t1795414715000000000\t1795414715\t0",
        b"writer_hostgroup\treader_hostgroup\tcheck_type\n10\t20\tread_only\n30\t40\tsuper_read_only",
        b"writer_hostgroup\tbackup_writer_hostgroup\treader_hostgroup\toffline_hostgroup\n1\t2\t3\t4",
        b"hostgroup_id\thostname\tport\tstatus\tcomment\n10\tnode01\t3306\tOFFLINE_SOFT\tit's [stonith:1 superseded \
          by=node03:3306 was=ONLINE]\n10\t/run/mysqld.sock\t0\tOFFLINE_MAYBE\t",
    ]));
    seeds
}

/// One answer, to everything that reads answers.
pub fn admin_rows(bytes: &[u8]) -> bool {
    let answer = answer(&String::from_utf8_lossy(bytes));
    let pairs = match answers::pairs(&answer) {
        Ok(pairs) => pairs,
        Err(error) => {
            may_be_said(&error.to_string());
            Vec::new()
        }
    };
    if let Err(error) = answers::hostgroups(&answer) {
        may_be_said(&error.to_string());
    }
    let of = answer.records.len();
    assert!(answers::first_column(&answer).len() <= of);
    assert!(answers::sessions(&answer).len() <= of);
    if let Some(lock) = answers::lock(&answer) {
        assert!(lock.expired || answer.records[0].get(1) == Some(&Some("0".to_owned())));
    }
    let returned = answers::returned(&answer.records);
    assert!(answers::returns(&answer.records).keys().all(|node| returned.contains(node)));
    assert!(answers::releases(&answer.records).keys().all(|node| returned.contains(node)));
    if let Some(seen) = answers::variables(&answer) {
        assert!(seen.extended || answer.records[0][0].as_deref() == Some("0"));
    }
    if let Some(lease) = answers::lease(&answer.records, "us") {
        assert!(lease.ours == (answer.records[0][0].as_deref() == Some("us")));
    }
    connections_are_counted_or_refused(&answer);
    let understood = !pairs.is_empty();
    servers(answer, pairs) || understood
}

fn answer(text: &str) -> Answer {
    let mut lines = text.split('\n').map(|line| line.split('\t').map(str::to_owned));
    let columns = lines.next().map(Iterator::collect).unwrap_or_default();
    let value = |value: String| if value == "NULL" { None } else { Some(value) };
    Answer { columns, records: lines.map(|line| line.map(value).collect()).collect(), affected: 0 }
}

/// Its rows are nobody's.
const EXCLUDED: u32 = 30;

/// What is in use is counted whole, or refused: a fence waits for 0 (I4).
fn connections_are_counted_or_refused(answer: &Answer) {
    let foreign = [Hostgroup(EXCLUDED)].into();
    let proxy = ProxyView { pairs: vec![pair()], foreign, ..ProxyView::default() };
    let managed = Managed::of(&proxy, &Policy::default());
    let used = match answers::used(answer, &managed) {
        Ok(used) => used,
        Err(error) => return may_be_said(&error.to_string()),
    };
    let mut sums: BTreeMap<(Hostgroup, Node), u128> = BTreeMap::new();
    for record in &answer.records {
        let texts: Vec<&str> = record.iter().map(|value| value.as_deref().unwrap()).collect();
        let numbers: Vec<u128> = [0, 2, 3].map(|at| texts[at].parse().unwrap()).into();
        if let Ok(node) = Node::new(texts[1], u16::try_from(numbers[1]).unwrap())
            && numbers[0] != EXCLUDED.into()
        {
            *sums.entry((Hostgroup(u32::try_from(numbers[0]).unwrap()), node)).or_default() += numbers[2];
        }
    }
    let counted = |(of, count): ((Hostgroup, Node), u64)| (of, u128::from(count));
    let most = |(of, sum): ((Hostgroup, Node), u128)| (of, sum.min(u64::MAX.into()));
    assert_eq!(used.into_iter().map(counted).collect::<Vec<_>>(), sums.into_iter().map(most).collect::<Vec<_>>());
}

fn pair() -> Pair {
    Pair { writer: Hostgroup(10), reader: Hostgroup(20), check_type: CheckType::ReadOnly }
}

/// Rows of the server table read back, and a decision comes of them.
fn servers(answer: Answer, pairs: Vec<Pair>) -> bool {
    let content = match answers::content(SERVERS, answer) {
        Ok(content) => content,
        Err(error) => {
            may_be_said(&error.to_string());
            return false;
        }
    };
    let mut rows = match content.rows() {
        Ok(rows) => rows,
        Err(error) => {
            may_be_said(&error.to_string());
            return false;
        }
    };
    let mut again = content.with_rows(&rows).rows().unwrap();
    let pairs = if pairs.is_empty() { vec![pair()] } else { pairs };
    of_proxy(ProxyView {
        runtime: rows.clone().into(),
        memory: rows.clone().into(),
        disk: rows.clone().into(),
        pairs,
        ..ProxyView::default()
    });
    // A port such as 007, which SQLite would not keep, sorts otherwise.
    rows.sort();
    again.sort();
    assert_eq!(again, rows, "{content:?}");
    true
}
