//! What the recorder asked the admin interface, and got.

use lab::proxysql::Answer;

use super::player::Player;
use crate::compare::form;
use crate::python::{Value, printed};

impl Player {
    /// What the recorder asked the admin interface, and got.
    pub fn look_as_recorded(&mut self, text: &str) -> bool {
        if let Some(error) = text.strip_prefix("second lock: ") {
            let Answer::Refused(words) = self.proxy.answer("CREATE TABLE main.stonith_lock AS SELECT 1") else {
                panic!("two locks")
            };
            self.expect(text, Value::parse(error).unwrap().list()[1].text().unwrap(), &words);
            return true;
        }
        if let Some(rest) = ["processlist after ", "processlist "].iter().find_map(|name| text.strip_prefix(name)) {
            self.sessions(rest, [2, 3]);
            return true;
        }
        if text.starts_with("(('7', ") {
            self.sessions(text, [1, 2]);
            return true;
        }
        for (name, one, other) in [
            ("rows in memory but not in runtime: ", "mysql_servers", "runtime_mysql_servers"),
            ("rows in runtime not in memory: ", "runtime_mysql_servers", "mysql_servers"),
        ] {
            let Some(rest) = text.strip_prefix(name) else { continue };
            let sql = format!("SELECT * FROM {one} EXCEPT SELECT * FROM {other}");
            let records = self.proxy.query(&sql).unwrap().records;
            self.expect(name, rest, &printed(&records));
            return true;
        }
        let pool = ["pool before ", "pool after ", "pool end ", "pool "];
        if let Some(rest) = pool.iter().find_map(|name| text.strip_prefix(name)) {
            self.pool(rest);
            return true;
        }
        if let Some(rest) = text.strip_prefix("memory after save ") {
            let sql = "SELECT hostgroup_id,hostname,status FROM mysql_servers ORDER BY 1,2";
            let records = self.proxy.query(sql).unwrap().records;
            self.expect(text, rest, &printed(&records));
            return true;
        }
        self.timed_statement(text)
    }

    /// Client sessions: which backend each one has. `[hostgroup, host]` or `[host, port]` say which columns those are.
    fn sessions(&mut self, text: &str, columns: [usize; 2]) {
        let value = Value::parse(text).unwrap();
        let is_on_the_way =
            |record: &&Value| record.record().get(4).is_some_and(|command| command.as_deref() == Some("Query"));
        self.on_the_way = value.list().iter().filter(is_on_the_way).count();
        let real: Vec<_> = value.list().iter().filter(|record| !is_on_the_way(record)).map(Value::record).collect();
        let wanted = if columns[1] == 3 { "srv_host,srv_port" } else { "srv_host,hostgroup" };
        let sql = format!("SELECT SessionID,{wanted} FROM stats_mysql_processlist ORDER BY 1");
        let lab = self.proxy.query(&sql).unwrap().records;
        let of_real: Vec<_> = real.iter().map(|one| columns.map(|column| one[column].clone()).to_vec()).collect();
        let of_lab: Vec<_> = lab.iter().map(|one| one[1..].to_vec()).collect();
        self.expect("processlist", &printed(&of_real), &printed(&of_lab));
        let id = |record: &[Option<String>]| record[0].clone().unwrap();
        self.ids = real.iter().zip(&lab).map(|(real, lab)| (id(real), id(lab))).collect();
    }

    /// The connection pool: each row's connections in use. How many are free is luck.
    fn pool(&mut self, text: &str) {
        let value = Value::parse(text).unwrap();
        let groups: Vec<String> = value.list().iter().filter_map(|record| record.record()[0].clone()).collect();
        let only = if groups.iter().any(|group| group == "20") { "" } else { "WHERE hostgroup=10" };
        let sql =
            format!("SELECT hostgroup,srv_host,status,ConnUsed FROM stats_mysql_connection_pool {only} ORDER BY 1,2");
        let lab = self.proxy.query(&sql).unwrap().records;
        let mut real: Vec<_> = value.list().iter().map(|record| record.record()[..4].to_vec()).collect();
        if let Some(first) = real.first_mut() {
            let used: usize = first[3].as_ref().unwrap().parse().unwrap();
            first[3] = Some(used.saturating_sub(self.on_the_way).to_string());
        }
        self.on_the_way = 0;
        self.expect("pool", &printed(&real), &printed(&lab));
    }

    /// `0.2 ms  STATEMENT  -> ANSWER`; a long answer is cut.
    fn timed_statement(&mut self, text: &str) -> bool {
        let Some((time, rest)) = text.split_once(" ms  ") else { return false };
        let (Ok(_), Some((sql, real))) = (time.parse::<f64>(), rest.rsplit_once("  -> ")) else { return false };
        if sql.starts_with("SHOW TABLES") {
            return false;
        }
        let lab = match self.proxy.answer(sql) {
            Answer::Done(affected, _) => affected.to_string(),
            Answer::Records(records) => printed(&records.records),
            Answer::Refused(words) => words,
        };
        // Checksums are other ones.
        let shape = |text: &str| if sql.contains("checksum") { form(&hexless(text)) } else { text.to_owned() };
        let (real, lab) = (shape(real), shape(&lab));
        let lab_cut = if real.ends_with(')') || real.parse::<u64>().is_ok() {
            &lab
        } else {
            lab.get(..real.len()).unwrap_or(&lab)
        };
        self.expect(sql, &real, lab_cut);
        self.look_at_memory();
        self.look();
        true
    }
}

/// Checksums made equal.
fn hexless(text: &str) -> String {
    text.split("'0x")
        .enumerate()
        .map(|(n, part)| if n == 0 { part } else { part.get(16..).unwrap_or_default() })
        .collect()
}
