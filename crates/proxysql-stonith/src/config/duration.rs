//! Durations as people write them: `"10s"`, `"1m 30s"`, `"500ms"`.

use std::time::Duration;

/// The longest duration of any setting. A longer one is a mistake, and would overflow sums of milliseconds.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The shortest duration of any setting: times are kept in whole milliseconds.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// Parses a duration with its unit.
///
/// # Errors
/// What was expected. Zero, less than 1 ms, more than 30 days and a number without a unit are refused.
pub fn parse(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a number with a unit, such as \"10s\", \"500ms\" or \"1m 30s\"";
    let shown: String = text.chars().take(40).collect();
    let duration = match humantime::parse_duration(text.trim()) {
        Ok(duration) => duration,
        Err(humantime::DurationError::NumberOverflow) => return Err(too_long(&shown)),
        Err(_) => return Err(format!("{shown:?} is not a duration; {EXPECTED}")),
    };
    if duration.is_zero() {
        return Err(format!("{shown:?} is zero; expected at least 1ms"));
    }
    if duration < SHORTEST {
        return Err(format!("{shown:?} is too short; expected at least 1ms"));
    }
    if duration > LONGEST {
        return Err(too_long(&shown));
    }
    Ok(duration)
}

fn too_long(shown: &str) -> String {
    format!("{shown:?} is too long; expected at most 30days")
}

/// The text of a duration; [`parse`] reads it back.
pub fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A duration in whole milliseconds. It is [`LONGEST`] at most, so it always fits.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them_and_read_back() {
        for (text, ms) in [("10s", 10_000), ("500ms", 500), ("1m 30s", 90_000), ("1h", 3_600_000), (" 2s ", 2_000)] {
            let duration = parse(text).unwrap();
            assert_eq!(millis(duration), ms, "{text}");
            assert_eq!(parse(&show(duration)), Ok(duration), "{text}");
        }
    }

    #[test]
    fn zero_overflowing_and_bare_numbers_are_refused_with_what_is_expected() {
        for (text, says) in [
            ("0s", "is zero"),
            ("0", "is zero"),
            ("10us", "at least 1ms"),
            ("10", "with a unit"),
            ("", "with a unit"),
            ("-1s", "with a unit"),
            ("ten seconds", "with a unit"),
            ("31days", "at most 30days"),
            ("99999999999999999999s", "at most 30days"),
            ("18446744073709551615s", "at most 30days"),
            ("18446744073709551615s 1h", "at most 30days"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }
}
