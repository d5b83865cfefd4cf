//! Two JSON values, field by field, both ways: the recorded one and the lab's.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::Value;

/// Fields that have other values in another run of the real program too, or on another make of node: they must be
/// there, with the same type.
#[rustfmt::skip]
const VARIES: [&str; 33] = [
    // What a node is and how it is set up.
    "AllowTLS", "AncestryUUID", "BinlogRowImage", "Binlog_format", "ExecutedGtidSet", "FlavorName", "GTIDMode",
    "HasReplicationCredentials", "LastIOError", "MasterUUID", "ReplicationCredentialsAvailable", "SemiSyncAvailable",
    "PromotionRule", "SemiSyncMasterTimeout", "ServerID", "ServerUUID", "SupportsOracleGTID", "UsingMariaDBGTID",
    "UsingOracleGTID", "Version", "VersionComment",
    // How far it is, and when it was looked at.
    "ElapsedDowntime", "IsUpToDate", "LastDiscoveryLatency", "LogFile", "LogPos", "SecondsSinceLastSeen", "Uptime",
    // The member, and what it made up.
    "DBBackend", "LastDetectionId", "ProcessingNodeToken", "Token", "UID",
];

/// Times, and messages that begin with one: of the same form.
const TIMES: [&str; 8] = [
    "AcknowledgedAt",
    "DowntimeEndTimestamp",
    "FirstSeenActive",
    "LastSeenActive",
    "LastSeenTimestamp",
    "Message",
    "RecoveryEndTimestamp",
    "RecoveryStartTimestamp",
];

/// Fields of an instance that only percona's build has: 102 in all. The recordings of another build have 87, those made
/// since 89 (facts §9); the lab answers as percona's.
#[rustfmt::skip]
const NOT_IN_EVERY_BUILD: [&str; 15] = [
    "QSP", "ReplicationGetSourcePublicKey", "ReplicationSSLCAFile", "ReplicationSSLCAPath", "ReplicationSSLCRLFile",
    "ReplicationSSLCRLPath", "ReplicationSSLCert", "ReplicationSSLCipher", "ReplicationSSLKey",
    "ReplicationSSLVerifyServerCert", "ReplicationSourcePublicKeyPath", "ReplicationTLSCiphersuites",
    "ReplicationTLSVersion", "SemiSyncMasterPluginNewVersion", "SemiSyncReplicaPluginNewVersion",
];

/// What of the above was seen to differ; a field that never does has no place there.
static DIFFERED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

/// Where the lab's answer is not the recorded one.
pub fn differences(real: &Value, lab: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ(real, lab, "", "", &mut found);
    found
}

/// The same, where another build was recorded.
pub fn differences_to_another_build(real: &Value, lab: &Value) -> Vec<String> {
    let mut found = differences(real, lab);
    found.retain(|difference| {
        !NOT_IN_EVERY_BUILD.iter().any(|field| difference.contains(&format!(".{field}: real has none")))
    });
    found
}

fn differ(real: &Value, lab: &Value, field: &str, at: &str, found: &mut Vec<String>) {
    let varies = VARIES.iter().find(|name| **name == field);
    let time = TIMES.iter().find(|name| **name == field);
    match (real, lab) {
        (real, lab) if real == lab => {}
        (Value::Object(of_real), Value::Object(of_lab)) if varies.is_none() => {
            let names: BTreeSet<&String> = of_real.keys().chain(of_lab.keys()).collect();
            for name in names {
                let at = format!("{at}.{name}");
                match (of_real.get(name), of_lab.get(name)) {
                    (Some(real), Some(lab)) => differ(real, lab, name, &at, found),
                    (Some(real), None) => found.push(format!("{at}: real {real}, lab has none")),
                    (None, lab) => found.push(format!("{at}: real has none, lab {lab:?}")),
                }
            }
        }
        // Reported in any order.
        (Value::Array(of_real), Value::Array(of_lab))
            if field == "RaftHealthyMembers" && at_any_place(of_real, of_lab) => {}
        (Value::Array(of_real), Value::Array(of_lab)) if of_real.len() == of_lab.len() && varies.is_none() => {
            for (n, (real, lab)) in of_real.iter().zip(of_lab).enumerate() {
                differ(real, lab, field, &format!("{at}[{n}]"), found);
            }
        }
        (Value::String(of_real), Value::String(of_lab)) if time.is_some() && form(of_real) == form(of_lab) => {
            DIFFERED.lock().unwrap().extend(time);
        }
        // The leader lists them once they have reported to it, in any order.
        (Value::Null, Value::Array(_)) if field == "RaftHealthyMembers" => {}
        (real, lab) if varies.is_some() && std::mem::discriminant(real) == std::mem::discriminant(lab) => {
            DIFFERED.lock().unwrap().extend(varies);
        }
        (real, lab) => found.push(format!("{at}: real {real}, lab {lab}")),
    }
}

/// Whether two lists have the same entries.
fn at_any_place(one: &[Value], other: &[Value]) -> bool {
    one.len() == other.len() && one.iter().all(|entry| other.contains(entry))
}

/// A text with its digits made equal.
pub fn form(text: &str) -> String {
    text.replace(|letter: char| letter.is_ascii_digit(), "0")
}

/// A field that never differs must be compared like any other.
pub fn each_exception_is_needed() {
    let differed = DIFFERED.lock().unwrap();
    let idle: Vec<_> = VARIES.iter().chain(&TIMES).filter(|field| !differed.contains(*field)).collect();
    assert!(idle.is_empty(), "these are always equal: {idle:?}");
}
