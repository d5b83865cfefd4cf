//! What clients' sessions did, and what they got.

use lab::proxysql::SessionError;

use super::player::Player;
use crate::python::Value;

impl Player {
    /// What a client's session did and got: `[tx]`, `[pinned]`, and their openings.
    pub fn act_in_a_session(&mut self, text: &str) -> bool {
        // `(('node01',),)`
        let landed = |rest: &str| Value::parse(rest)?.list().first()?.record().into_iter().flatten().next();
        for (opening, pins) in [
            ("open tx on ", false),
            ("pinned session on ", true),
            ("pinned on new primary still ", true),
            ("pinned on new primary ", true),
            ("pinned on ", true),
        ] {
            let Some(rest) = text.strip_prefix(opening) else { continue };
            if !opening.contains("still") {
                self.open(pins);
            }
            let session = if pins { &self.pinned } else { &self.transaction };
            let written = session.as_ref().unwrap().write();
            self.expect(text, &landed(rest).unwrap(), &in_words(&written));
            return true;
        }
        if let Some(error) = text.strip_prefix("pinned EXC ") {
            let written = self.pinned.as_ref().unwrap().write();
            self.expect(text, &code(error), &in_words(&written));
            return true;
        }
        let Some((statement, said)) = text.rsplit_once(" -> ") else { return false };
        // The time that it took.
        let said = said.rsplit_once(" (").filter(|(_, rest)| rest.ends_with(" ms)")).map_or(said, |(said, _)| said);
        let said = landed(said).unwrap_or_else(|| code(said.strip_prefix("EXC ").unwrap_or(said)));
        let (pins, statement) = match statement.split_once("] ") {
            Some(("[tx", statement)) => (false, statement),
            Some(("[pinned", statement)) => (true, statement),
            _ => return false,
        };
        if matches!(statement, "BEGIN" | "SET @x=1") {
            self.open(pins);
            return true;
        }
        let session = if pins { &self.pinned } else { &self.transaction };
        let session = session.as_ref().unwrap();
        let got = if statement == "COMMIT" { session.commit().map(|()| "OK".to_owned()) } else { session.write() };
        self.expect(text, &said, &in_words(&got));
        true
    }

    fn open(&mut self, pins: bool) {
        let session = self.proxy.connect();
        if pins {
            session.pin();
            self.pinned = Some(session);
        } else {
            session.begin();
            self.transaction = Some(session);
        }
    }
}

/// The code of `(CODE, TEXT)`; 0 is a connection that is gone, as 2013 is.
pub fn code(error: &str) -> String {
    match Value::parse(error).and_then(|error| Some(error.list().first()?.text()?.to_owned())) {
        Some(code) if code == "0" => "2013".to_owned(),
        Some(code) => code,
        None => error.split(' ').next().unwrap_or_default().to_owned(),
    }
}

pub fn in_words(got: &Result<String, SessionError>) -> String {
    match got {
        Ok(node) => node.clone(),
        Err(error) => error.code().map_or("nothing".to_owned(), |code| code.to_string()),
    }
}
