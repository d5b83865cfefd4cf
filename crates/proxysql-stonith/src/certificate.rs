//! The two things in a server's certificate that an operator has to look after: whom it names, and when it ends.
//!
//! rustls verifies certificates. This reader trusts nothing and decides nothing; it only shows.

use std::net::IpAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What a certificate says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The names and addresses that it is for (`subjectAltName`).
    pub names: Vec<String>,
    /// When it ends, s since 1970.
    pub ends_s: i64,
}

/// The OID of `subjectAltName`, 2.5.29.17, with tag and length.
const ALT_NAME: [u8; 5] = [6, 3, 0x55, 0x1d, 0x11];

/// ASN.1 tags of DER.
const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const LONG_TIME: u8 = 0x18;
const DNS_NAME: u8 = 0x82;
const ADDRESS: u8 = 0x87;

impl Certificate {
    /// Reads a certificate in DER; `None` if it is not understood.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (SEQUENCE, certificate, _) = element(der)? else { return None };
        let (SEQUENCE, signed, _) = element(certificate)? else { return None };
        let parts = elements(signed)?;
        let is_validity = |(tag, value): &&(u8, &[u8])| {
            *tag == SEQUENCE && value.first().is_some_and(|tag| matches!(*tag, UTC_TIME | LONG_TIME))
        };
        let (_, validity) = parts.iter().find(is_validity)?;
        let [_, (tag, text)] = elements(validity)?[..] else { return None };
        let ends_s = time(tag, std::str::from_utf8(text).ok()?)?;
        Some(Self { names: parts.last().map(|(_, last)| names(last)).unwrap_or_default(), ends_s })
    }

    /// Whether it is for this host, which is a name or an address.
    pub fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| match (name.parse::<IpAddr>(), host.parse::<IpAddr>()) {
            (Ok(name), Ok(host)) => name == host,
            (Err(_), Err(_)) => match name.strip_prefix("*.") {
                Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
                None => name.eq_ignore_ascii_case(host),
            },
            _ => false,
        })
    }
}

/// The first element: its tag, its value, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = der else { return None };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

fn elements(mut der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (tag, value, rest) = element(der)?;
        found.push((tag, value));
        der = rest;
    }
    Some(found)
}

/// The names in a certificate's extensions.
fn names(extensions: &[u8]) -> Vec<String> {
    let list = || {
        let (SEQUENCE, extensions, _) = element(extensions)? else { return None };
        let (_, extension) =
            elements(extensions)?.into_iter().find(|(_, extension)| extension.starts_with(&ALT_NAME))?;
        let (_, octets) = elements(extension)?.into_iter().find(|(tag, _)| *tag == OCTETS)?;
        elements(element(octets)?.1)
    };
    list().into_iter().flatten().filter_map(|(tag, value)| name(tag, value)).collect()
}

fn name(tag: u8, value: &[u8]) -> Option<String> {
    match (tag, value.len()) {
        (DNS_NAME, _) => String::from_utf8(value.to_vec()).ok(),
        (ADDRESS, 4) => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?).to_string()),
        (ADDRESS, 16) => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?).to_string()),
        _ => None,
    }
}

/// `YYMMDDhhmmssZ`, of the years 1950 to 2049, or the same with four digits for the year.
fn time(tag: u8, text: &str) -> Option<i64> {
    let text = match tag {
        UTC_TIME => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        _ => text.to_owned(),
    };
    let (date, time) = text.strip_suffix('Z')?.split_at_checked(8)?;
    let civil: DateTime = format!("{date}T{time}").parse().ok()?;
    Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str], ends: (i32, u8, u8)) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(ends.0, ends.1, ends.2);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_its_names_and_its_end() {
        let read = Certificate::read(&certificate(&["orc1.example", "10.0.0.5", "::1"], (2031, 2, 3))).unwrap();
        assert_eq!(read.names, ["orc1.example", "10.0.0.5", "::1"]);
        assert_eq!(read.ends_s, 1_927_843_200, "2031-02-03");
        let late = Certificate::read(&certificate(&[], (2099, 1, 1))).unwrap();
        assert_eq!((late.names.len(), late.ends_s), (0, 4_070_908_800), "2099-01-01, another form");
    }

    #[test]
    fn a_certificate_is_for_the_names_in_it_and_for_one_label_of_a_wildcard() {
        let names = ["orc1.example", "*.db.example", "10.0.0.5"].map(str::to_owned).to_vec();
        let certificate = Certificate { names, ends_s: 0 };
        for host in ["orc1.example", "ORC1.example", "a.db.example", "10.0.0.5"] {
            assert!(certificate.is_for(host), "{host}");
        }
        for host in ["orc2.example", "db.example", "a.b.db.example", "10.0.0.6", ""] {
            assert!(!certificate.is_for(host), "{host}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_not_understood_wherever_it_is_cut() {
        let whole = certificate(&["orc1"], (2031, 2, 3));
        for end in 0..whole.len() {
            assert_eq!(Certificate::read(&whole[..end]), None, "{end}");
        }
    }
}
