//! Records for other systems: JSON Lines, RFC 5424, CEF (`docs/spec/audit.md`, 6).
//!
//! JSON Lines are the canonical rows themselves: each line's `prev` is the SHA-384 of the line
//! before it. The other two are for collectors of events. What a record holds came partly from
//! outside (names, errors), so nothing of it may end a field, a value or a line.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use bundle_format::text::escaped;

use super::log::Stored;
use super::record::{Outcome, Row};
use crate::error::Result;

/// RFC 5612: the number for documentation and examples; a site's collector may map it to its own.
const STRUCTURE: &str = "lockgate@32473";
/// RFC 5424, table 1: log audit.
const FACILITY: u8 = 13;

/// How records are written for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The canonical rows, one a line.
    Jsonl,
    /// Syslog messages with structured data.
    Rfc5424,
    /// Common Event Format, version 0.
    Cef,
}

impl Format {
    /// One record as a line, without its newline.
    pub fn line(self, stored: &Stored) -> Result<String> {
        Ok(match self {
            Self::Jsonl => String::from_utf8_lossy(&stored.row.to_bytes()?).trim_end_matches('\n').to_owned(),
            Self::Rfc5424 => rfc5424(stored),
            Self::Cef => cef(stored),
        })
    }
}

/// RFC 5424, 6. The message part is plain ASCII; everything else is structured data.
fn rfc5424(stored: &Stored) -> String {
    let row = &stored.row;
    // RFC 5424, table 2: error, warning, notice, informational.
    let severity = match row.result {
        Outcome::Failed => 3,
        Outcome::Refused => 4,
        Outcome::Begun => 5,
        Outcome::Ok => 6,
    };
    let mut line = format!(
        "<{}>1 {} {} lockgate - {} [{STRUCTURE}",
        FACILITY * 8 + severity,
        row.at,
        header(&row.host, 255),
        header(&row.act, 32)
    );
    for (name, value) in fields(row) {
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}=\"{}\"", parameter(&value));
    }
    let _ = write!(line, " hash=\"{}\"]", stored.hash);
    let _ = write!(line, " {} {}", header(&row.act, 64), row.result);
    line
}

/// Everything of a row but its time, which each format has a place of its own for.
fn fields(row: &Row) -> Vec<(&'static str, String)> {
    [
        ("seq", row.seq.to_string()),
        ("actor", row.actor.clone()),
        ("origin", row.origin.clone()),
        ("act", row.act.clone()),
        ("product", row.product.clone()),
        ("release", row.release.clone()),
        ("subject", row.subject.clone()),
        ("result", row.result.to_string()),
        ("closes", row.closes.to_string()),
        ("detail", row.detail.clone()),
        ("prev", row.prev.to_string()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

/// A header field: printable ASCII without space; anything else becomes `-`.
fn header(text: &str, limit: usize) -> String {
    let plain: String = text.chars().take(limit).map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect();
    if plain.is_empty() { "-".into() } else { plain }
}

/// RFC 5424, 6.3.3: `"`, `\` and `]` are escaped. Control and hidden characters become `\u{..}`
/// before that, so that a value never ends the line.
fn parameter(text: &str) -> String {
    escaped(text).replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
}

/// CEF, implementation standard version 25: header fields parted by `|`, then `key=value` pairs.
fn cef(stored: &Stored) -> String {
    let row = &stored.row;
    let severity = match row.result {
        Outcome::Failed => 8,
        Outcome::Refused => 6,
        Outcome::Begun | Outcome::Ok => 3,
    };
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("{} {}", row.act, row.result);
    let mut line = format!(
        "CEF:0|Lockgate|installer|{version}|{}|{}|{severity}|rt={} externalId={}",
        cef_header(&row.act),
        cef_header(&name),
        row.at.to_unix().saturating_mul(1000),
        row.seq
    );
    let source = peer(&row.origin).map(|peer| ("src", peer.to_string()));
    let closes = (row.closes > 0).then(|| ("cn1", row.closes.to_string()));
    let pairs = [
        Some(("dvchost", row.host.clone())),
        Some(("suser", row.actor.clone())),
        source,
        Some(("outcome", row.result.to_string())),
        closes,
        Some(("cs1", row.origin.clone())),
        Some(("cs2", row.product.clone())),
        Some(("cs3", row.release.clone())),
        Some(("cs4", row.subject.clone())),
        Some(("cs5", row.prev.to_string())),
        Some(("cs6", stored.hash.to_string())),
        Some(("msg", row.detail.clone())),
    ];
    for (key, value) in pairs.into_iter().flatten().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(line, " {key}={}", cef_value(&value));
        if let Some((_, label)) = LABELS.iter().find(|(name, _)| *name == key) {
            let _ = write!(line, " {key}Label={label}");
        }
    }
    line
}

/// What CEF's free fields hold.
const LABELS: [(&str, &str); 7] = [
    ("cn1", "closes"),
    ("cs1", "origin"),
    ("cs2", "product"),
    ("cs3", "release"),
    ("cs4", "subject"),
    ("cs5", "prev"),
    ("cs6", "hash"),
];

/// The IPv4 peer of an origin `ssh PEER …`; CEF's `src` takes no other.
fn peer(origin: &str) -> Option<Ipv4Addr> {
    match origin.strip_prefix("ssh ")?.split(' ').next()?.parse() {
        Ok(IpAddr::V4(address)) => Some(address),
        _ => None,
    }
}

fn cef_header(text: &str) -> String {
    hidden(text).replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn cef_value(text: &str) -> String {
    hidden(text).replace('\\', "\\\\").replace('=', "\\=").replace('\n', "\\n").replace('\r', "\\r")
}

/// Control and hidden characters as `\u{..}`, but for backslash and line ends, which CEF escapes itself.
fn hidden(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if matches!(c, '\\' | '\n' | '\r') {
            out.push(c);
        } else {
            out.push_str(&escaped(c.encode_utf8(&mut [0; 4])));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bundle_format::digest::Sha384;
    use bundle_format::timestamp::Timestamp;

    use super::super::caller::Caller;
    use super::super::record::{Record, zero};
    use super::*;

    /// Texts that try to get out of every field there is.
    const HOSTILE: [&str; 7] = [
        "plain",
        "a]b\"c\\d|e=f",
        "line\nline\r\nCEF:0|x|y|z|1|2|3|outcome=ok",
        "tab\tbell\u{7}null\u{0}",
        "right\u{202e}to left, ü, 漢字",
        "trailing\\",
        "] <110>1 - - - - - - [x y=\"z\"]",
    ];

    fn stored(seq: u64, text: &str) -> Stored {
        let caller =
            Caller { actor: format!("{text} (uid 1)"), origin: "ssh 192.0.2.1 /dev/pts/0".into(), host: text.into() };
        let record = Record::new(&Timestamp::from_unix(1_700_000_000), text, Outcome::Refused)
            .of("p", text)
            .subject(&Sha384::of(b"m"))
            .detail(text);
        let row = Row::new(&record, &caller, seq, 3, zero());
        let hash = row.hash().unwrap();
        Stored { row, hash }
    }

    /// RFC 5424 by its grammar: header fields, then one structured data element, then the message.
    fn parse_rfc5424(line: &str) -> (Vec<String>, BTreeMap<String, String>, String) {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let (head, rest) = line.split_once(" [").unwrap();
        let head: Vec<String> = head.split(' ').map(str::to_owned).collect();
        assert_eq!(head.len(), 6, "{head:?}");
        assert!(head.iter().all(|field| !field.is_empty() && field.chars().all(|c| c.is_ascii_graphic())), "{head:?}");
        let mut chars = rest.chars();
        let id: String = chars.by_ref().take_while(|c| *c != ' ').collect();
        assert_eq!(id, STRUCTURE);
        let mut found = BTreeMap::new();
        loop {
            let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
            assert_eq!(chars.next(), Some('"'));
            let mut value = String::new();
            loop {
                match chars.next().unwrap() {
                    '\\' => value.push(chars.next().unwrap()),
                    '"' => break,
                    c => {
                        assert_ne!(c, ']', "an unescaped bracket in {line}");
                        value.push(c);
                    }
                }
            }
            found.insert(name, value);
            match chars.next() {
                Some(' ') => {}
                Some(']') => break,
                other => panic!("{other:?} in {line}"),
            }
        }
        (head, found, chars.collect())
    }

    /// CEF: seven header fields, then pairs whose keys are words before an unescaped `=`.
    fn parse_cef(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let (mut head, mut field, mut chars) = (Vec::new(), String::new(), line.chars());
        while head.len() < 7 {
            match chars.next().unwrap() {
                '\\' => field.push(chars.next().unwrap()),
                '|' => head.push(std::mem::take(&mut field)),
                c => field.push(c),
            }
        }
        let (mut found, mut key, mut value) = (BTreeMap::new(), String::new(), String::new());
        while let Some(c) = chars.next() {
            match c {
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                }),
                '=' => {
                    let (before, next) = value.rsplit_once(' ').unwrap_or(("", &value));
                    let next = next.to_owned();
                    if !key.is_empty() {
                        found.insert(key, before.to_owned());
                    }
                    (key, value) = (next, String::new());
                }
                c => value.push(c),
            }
        }
        found.insert(key, value);
        (head, found)
    }

    /// Undoes `escaped`, where a backslash begins nothing but an escape.
    fn unescaped(text: &str) -> String {
        let mut parts = text.split("\\u{");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |mut out, part| {
            let (code, rest) = part.split_once('}').unwrap();
            out.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
            out.push_str(rest);
            out
        })
    }

    #[test]
    fn json_lines_are_the_canonical_rows() {
        for text in HOSTILE {
            let stored = stored(1, text);
            let line = Format::Jsonl.line(&stored).unwrap();
            assert!(!line.contains('\n'), "{line:?}");
            assert_eq!(Sha384::of(format!("{line}\n").as_bytes()), stored.hash);
            assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), stored.row);
        }
    }

    #[test]
    fn rfc5424_parses_back_whatever_the_texts_are() {
        for text in HOSTILE {
            let stored = stored(41, text);
            let (head, found, message) = parse_rfc5424(&Format::Rfc5424.line(&stored).unwrap());
            assert_eq!(
                (head[0].as_str(), head[1].as_str(), head[3].as_str()),
                ("<108>1", "2023-11-14T22:13:20Z", "lockgate")
            );
            assert_eq!(found["seq"], "41");
            assert_eq!(unescaped(&found["detail"]), text);
            assert_eq!(unescaped(&found["actor"]), format!("{text} (uid 1)"));
            assert_eq!(found["hash"], stored.hash.to_string());
            assert!(message.ends_with(" refused") && message.is_ascii(), "{message:?}");
        }
    }

    #[test]
    fn cef_parses_back_whatever_the_texts_are() {
        for text in HOSTILE {
            let stored = stored(41, text);
            let (head, found) = parse_cef(&Format::Cef.line(&stored).unwrap());
            assert_eq!((head[0].as_str(), head[1].as_str(), head[6].as_str()), ("CEF:0", "Lockgate", "6"));
            assert_eq!((found["externalId"].as_str(), found["outcome"].as_str()), ("41", "refused"), "{text:?}");
            assert_eq!((found["src"].as_str(), found["rt"].as_str()), ("192.0.2.1", "1700000000000"));
            assert_eq!((found["cs6Label"].as_str(), &found["cs6"]), ("hash", &stored.hash.to_string()));
            assert_eq!(found["msg"], hidden(text));
        }
        let escapes = stored(1, "a|b\\c=d\ne");
        let line = Format::Cef.line(&escapes).unwrap();
        assert!(line.contains("|a\\|b\\\\c=d e refused|") && line.contains("msg=a|b\\\\c\\=d\\ne"), "{line}");
    }

    #[test]
    fn a_missing_record_shows_in_every_format() {
        let rows: Vec<Stored> = [1, 2, 4].into_iter().map(|seq| stored(seq, "x")).collect();
        let numbers = |format: Format| -> Vec<u64> {
            let number = |line: String| match format {
                Format::Jsonl => serde_json::from_str::<Row>(&line).unwrap().seq,
                Format::Rfc5424 => parse_rfc5424(&line).1["seq"].parse().unwrap(),
                Format::Cef => parse_cef(&line).1["externalId"].parse().unwrap(),
            };
            rows.iter().map(|row| number(format.line(row).unwrap())).collect()
        };
        for format in [Format::Jsonl, Format::Rfc5424, Format::Cef] {
            let found = numbers(format);
            let gaps: Vec<u64> = found.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| pair[0]).collect();
            assert_eq!(gaps, [2], "{format:?}: the collector misses record 3");
        }
    }

    #[test]
    fn an_ipv6_peer_is_no_src() {
        assert_eq!(peer("ssh 2001:db8::1 /dev/pts/0"), None);
        assert_eq!(peer("tty /dev/tty1"), None);
        assert_eq!(peer("ssh 192.0.2.1"), Some(Ipv4Addr::new(192, 0, 2, 1)));
    }
}
