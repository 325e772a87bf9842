//! Strict JSON for signed documents: bounded, unknown fields and doubled keys refused.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ErrorKind, Result, limits};

/// Parses `bytes` as a `T` whose structs all say `deny_unknown_fields`. Doubled keys of a struct
/// are refused by serde's derive; no signed document holds a free map.
pub fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8], limit: u64) -> Result<T> {
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if found > limit {
        return Err(ErrorKind::TooLarge { what: what.into(), limit, found }.into());
    }
    if depth(bytes) > limits::JSON_DEPTH {
        return Err(
            ErrorKind::Json { what: what.into(), why: format!("nested deeper than {}", limits::JSON_DEPTH) }.into()
        );
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ErrorKind::Json { what: what.into(), why: crate::text::escaped(&error.to_string()) }.into())
}

/// Parses a document that must also be in the form that [`to_bytes`] writes.
pub fn parse_canonical<T: DeserializeOwned + Serialize>(what: &str, bytes: &[u8], limit: u64) -> Result<T> {
    let value: T = parse(what, bytes, limit)?;
    check_canonical(what, &value, bytes)?;
    Ok(value)
}

/// Refuses `bytes` that are not what [`to_bytes`] makes of `value`.
pub fn check_canonical<T: Serialize>(what: &str, value: &T, bytes: &[u8]) -> Result<()> {
    let mut rest = Compared(bytes);
    match serde_json::to_writer(&mut rest, value) {
        Ok(()) if rest.0 == b"\n" => Ok(()),
        Err(error) if !error.is_io() => Err(ErrorKind::Json { what: what.into(), why: error.to_string() }.into()),
        _ => Err(ErrorKind::NotCanonical { what: what.into() }.into()),
    }
}

/// Takes only the bytes that it was made of, in their order: what is written is compared, not kept.
struct Compared<'a>(&'a [u8]);

impl std::io::Write for Compared<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the canonical form: fields in declaration order, no insignificant space, one newline.
pub fn to_bytes<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>> {
    let mut bytes =
        serde_json::to_vec(value).map_err(|error| ErrorKind::Json { what: what.into(), why: error.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Deepest nesting of `[` and `{` outside strings. Strings are passed over from quote to quote: in a
/// trust root they are nearly all there is.
fn depth(bytes: &[u8]) -> usize {
    let (mut deepest, mut now) = (0usize, 0usize);
    let mut rest = bytes;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => rest = behind_string(behind),
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What follows a string whose opening quote was read; nothing if it does not end.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\');
    loop {
        // By 32 bytes at once, without a way out among them: what the compiler makes vectors of.
        let (chunks, _) = rest.as_chunks::<32>();
        let none = |chunk: &&[u8; 32]| !chunk.iter().fold(false, |found, byte| found | ends(byte));
        rest = rest.get(32 * chunks.iter().take_while(none).count()..).unwrap_or_default();
        let Some(at) = rest.iter().position(ends) else { return &[] };
        // A backslash takes the next byte with it.
        let (escape, skip) = (rest.get(at) == Some(&b'\\'), at + 1);
        if !escape {
            return rest.get(skip..).unwrap_or_default();
        }
        rest = rest.get(skip + 1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Doc {
        a: u64,
        b: Vec<String>,
    }

    #[test]
    fn round_trip() {
        let doc = Doc { a: 1, b: vec!["x".into()] };
        let bytes = to_bytes("doc", &doc).unwrap();
        assert_eq!(parse_canonical::<Doc>("doc", &bytes, 100).unwrap(), doc);
    }

    #[test]
    fn nesting_is_counted_outside_strings() {
        for (text, deepest) in [
            ("", 0),
            ("[]", 1),
            (r#"{"a":[{}]}"#, 3),
            (r#"["[[[[", "]]"]"#, 1),
            (r#"["\"[[", {"\\":[]}]"#, 3),
            (r#"["[[[["#, 1),
            (r#"["\"#, 1),
            // Quotes and backslashes around the 32 bytes that are looked at together.
            (r#"["0123456789012345678901234567890",[]]"#, 2),
            (r#"["01234567890123456789012345678901",[]]"#, 2),
            (r#"["012345678901234567890123456789\"",[]]"#, 2),
            (r#"["0123456789012345678901234567890\"",[]]"#, 2),
            (r#"["01234567890123456789012345678901\\",[]]"#, 2),
            (r#"["012345678901234567890123456789012345678901234567890123456789012345\"[","[",[[]]]"#, 3),
            ("]]][", 1),
        ] {
            assert_eq!(depth(text.as_bytes()), deepest, "{text}");
        }
    }

    #[test]
    fn one_form_and_no_other() {
        let doc = Doc { a: 1, b: vec!["x".into()] };
        let good = to_bytes("doc", &doc).unwrap();
        check_canonical("doc", &doc, &good).unwrap();
        let cut = (0..good.len()).map(|len| good[..len].to_vec());
        let grown = [&good[..], b"\n"].concat();
        let flipped = (0..good.len()).map(|at| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            bad
        });
        for bad in cut.chain(flipped).chain([grown]) {
            let error = check_canonical("doc", &doc, &bad).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotCanonical { .. }), "{bad:?}");
        }
    }

    #[test]
    fn refusals() {
        for bad in [
            r#"{"a":1,"b":[],"c":0}"#,
            r#"{"a":1,"a":2,"b":[]}"#,
            r#"{"a":1.0,"b":[]}"#,
            r#"{"a":-1,"b":[]}"#,
            r#"{"a":1e3,"b":[]}"#,
            "\u{feff}{\"a\":1,\"b\":[]}",
            r#"{"a":1,"b":[]} x"#,
            r#"{"a":18446744073709551616,"b":[]}"#,
        ] {
            assert!(
                matches!(parse::<Doc>("doc", bad.as_bytes(), 100).unwrap_err().kind(), ErrorKind::Json { .. }),
                "{bad}"
            );
        }
        assert!(matches!(
            parse::<Doc>("doc", b"{\"a\":1,\"b\":[\"\xff\"]}", 100).unwrap_err().kind(),
            ErrorKind::Json { .. }
        ));
        assert!(matches!(parse::<Doc>("doc", br#"{"a":1,"b":[]}"#, 5).unwrap_err().kind(), ErrorKind::TooLarge { .. }));
        let deep = "[".repeat(33);
        assert!(matches!(
            parse::<serde_json::Value>("doc", deep.as_bytes(), 100).unwrap_err().kind(),
            ErrorKind::Json { .. }
        ));
        assert!(matches!(
            parse_canonical::<Doc>("doc", br#"{"a":1, "b":[]}"#, 100).unwrap_err().kind(),
            ErrorKind::NotCanonical { .. }
        ));
    }
}
