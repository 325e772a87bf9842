//! Instants in signed documents: RFC 3339, UTC, whole seconds, exactly `YYYY-MM-DDTHH:MM:SSZ`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ErrorKind, Result};

/// A UTC instant. The fixed form makes the order of the texts the order in time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(String);

impl Timestamp {
    /// Parses the fixed form; years 1970 to 9999.
    pub fn parse(text: &str) -> Result<Self> {
        let shape = text.len() == 20
            && text.bytes().zip("dddd-dd-ddTdd:dd:ddZ".bytes()).all(|(byte, want)| match want {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            });
        let field =
            |at: usize, len: usize| text.get(at..at + len).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
        let (year, month, day) = (field(0, 4), field(5, 2), field(8, 2));
        let real = shape
            && year >= 1970
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && field(11, 2) < 24
            && field(14, 2) < 60
            && field(17, 2) < 60;
        if real {
            return Ok(Self(text.to_owned()));
        }
        Err(ErrorKind::BadValue {
            what: "time".into(),
            expected: "YYYY-MM-DDTHH:MM:SSZ".into(),
            found: text.chars().take(64).collect(),
        }
        .into())
    }

    /// The instant `seconds` after 1970-01-01T00:00:00Z; saturates at the end of the year 9999.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(253_402_300_799);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        Self(format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60))
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn to_unix(&self) -> u64 {
        let field = |at: usize, len: usize| self.0.get(at..at + len).and_then(|part| part.parse::<u32>().ok());
        let (year, month) = (field(0, 4).unwrap_or(1970), field(5, 2).unwrap_or(1));
        let years: u64 = (1970..year).map(|year| 337 + u64::from(days_in_month(year, 2))).sum();
        let months: u64 = (1..month).map(|month| u64::from(days_in_month(year, month))).sum();
        let days = years + months + u64::from(field(8, 2).unwrap_or(1).saturating_sub(1));
        let time = |at| u64::from(field(at, 2).unwrap_or(0));
        days * 86_400 + time(11) * 3600 + time(14) * 60 + time(17)
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of a day number since 1970-01-01: whole years, then whole months, taken off.
fn civil_from_days(mut days: u64) -> (u32, u32, u64) {
    let mut year = 1970;
    loop {
        let length = 337 + u64::from(days_in_month(year, 2));
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    while days >= u64::from(days_in_month(year, month)) {
        days -= u64::from(days_in_month(year, month));
        month += 1;
    }
    (year, month, days + 1)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_seconds_known_answers() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_unix(seconds).as_str(), text);
            assert_eq!(Timestamp::parse(text).unwrap().to_unix(), seconds.min(253_402_300_799));
        }
    }

    #[test]
    fn refuses_what_is_no_instant() {
        for bad in [
            "2023-02-29T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01 00:00:00Z",
            "2023-01-01T00:00:00+00:00",
            "1969-01-01T00:00:00Z",
            "",
        ] {
            assert!(matches!(Timestamp::parse(bad).unwrap_err().kind(), ErrorKind::BadValue { .. }), "{bad}");
        }
    }
}
