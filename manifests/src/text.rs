//! Text forms shared by the formats: hexadecimal, base64, groups for reading aloud, escaping.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    // Not by `write!`: a manifest holds thousands of digests, and is written again to be compared.
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) });
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        digits.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

/// The bytes of lower-case hexadecimal digits; `None` for anything else.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

/// RFC 4648 base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes canonical RFC 4648 base64; `None` for anything else.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Hexadecimal digits in groups of four, for comparing by eye or aloud.
pub fn groups_of_four(digits: &str) -> String {
    digits.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(" ")
}

/// Makes untrusted text safe to print: control, bidirectional and zero-width characters become
/// `\u{..}` escapes, so that no input moves the cursor or reorders a line.
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_hidden(c) || c == '\\' {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

/// Makes an untrusted JSON text safe to print without changing what it says: inside its strings the
/// same characters become JSON's own `\uXXXX` escapes.
pub fn escaped_json(text: &str) -> String {
    use std::fmt::Write as _;
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_hidden(c) && !matches!(c, '\n' | '\t') {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else if c != '\r' {
            out.push(c);
        }
        out
    })
}

/// Control, bidirectional and zero-width characters.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip_and_refusals() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(unhex("00abff"), Some(vec![0, 0xab, 0xff]));
        for bad in ["0", "0G", "AB", "é0"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    #[test]
    fn escaping_leaves_no_control_character() {
        assert_eq!(escaped("a\u{1b}[2Jb\nc\u{202e}d\\"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d\\u{5c}");
        assert_eq!(escaped("plain Ünïcode"), "plain Ünïcode");
    }

    #[test]
    fn escaped_json_says_the_same() {
        let text = "{\"a\":\"b\u{202e}c\u{7f}\u{e0001}d\\n\",\n\t\"e\":1}";
        let shown = escaped_json(text);
        assert!(shown.chars().all(|c| !is_hidden(c) || c == '\n' || c == '\t'), "{shown}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(&text.replace('\u{7f}', "\\u007f")));
    }

    #[test]
    fn groups() {
        assert_eq!(groups_of_four("0123456789"), "0123 4567 89");
    }

    #[test]
    fn base64_refuses_what_it_would_not_write() {
        assert_eq!(unbase64("YQ=="), Some(b"a".to_vec()));
        for bad in ["YQ", "YR==", "YQ==\n"] {
            assert_eq!(unbase64(bad), None, "{bad}");
        }
    }
}
