//! Values that no list knows, by what stands around them: PEM blocks, logins in URLs, whatever
//! follows a word such as `password`.

/// PEM blocks (RFC 7468), also where line ends are written as `\n`. A block that is cut off is
/// replaced to the end of the text.
pub(super) fn pem(text: &str) -> (String, u64) {
    let (mut out, mut rest, mut times) = (String::with_capacity(text.len()), text, 0);
    while let Some(start) = rest.find("-----BEGIN ") {
        let (plain, block) = rest.split_at(start);
        out.push_str(plain);
        out.push_str("[pem]");
        times += 1;
        let behind = block.find("-----END ").and_then(|end| {
            let tail = block.get(end + "-----END ".len()..)?;
            tail.find("-----").and_then(|dashes| tail.get(dashes + 5..))
        });
        rest = behind.unwrap_or_default();
    }
    out.push_str(rest);
    (out, times)
}

/// The part before `@` in `SCHEME://LOGIN@HOST`.
pub(super) fn logins(text: &str) -> (String, u64) {
    let (mut out, mut rest, mut times) = (String::with_capacity(text.len()), text, 0);
    while let Some(start) = rest.find("://") {
        let (plain, behind) = rest.split_at(start + 3);
        out.push_str(plain);
        let authority = behind.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(behind.len());
        let at = behind.get(..authority).and_then(|authority| authority.rfind('@'));
        rest = match at {
            Some(at) => {
                out.push_str("[login]");
                times += 1;
                behind.get(at..).unwrap_or_default()
            }
            None => behind,
        };
    }
    out.push_str(rest);
    (out, times)
}

/// Words behind which a value is nobody's business.
const WORDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "private_key",
    "authorization",
];

/// Values behind such a word: `WORD = VALUE`, `WORD: VALUE`, with quotes anywhere. Behind
/// `authorization` it is the rest of the line.
pub(super) fn values(text: &str) -> (String, u64) {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<(usize, usize)> = WORDS
        .iter()
        .flat_map(|word| {
            lower.match_indices(word).filter_map(|(at, _)| value(text, at + word.len(), *word == "authorization"))
        })
        .collect();
    found.sort_unstable();
    let (mut out, mut from, mut times) = (String::with_capacity(text.len()), 0, 0);
    for (start, end) in found {
        if start < from {
            continue;
        }
        out.push_str(text.get(from..start).unwrap_or_default());
        out.push_str("[value]");
        (from, times) = (end, times + 1);
    }
    out.push_str(text.get(from..).unwrap_or_default());
    (out, times)
}

/// Where the value behind a word begins and ends; none if no `=` or `:` and no value follows.
fn value(text: &str, word_end: usize, whole_line: bool) -> Option<(usize, usize)> {
    let behind = text.get(word_end..)?;
    let sign = behind.trim_start_matches(['"', '\'', '\\', ' ', '\t']);
    let open = sign.strip_prefix(['=', ':'])?.trim_start_matches([' ', '\t']);
    let (open, escaped) = open.strip_prefix('\\').map_or((open, false), |open| (open, true));
    let quote = open.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote.map_or(open, |quote| open.strip_prefix(quote).unwrap_or(open));
    let end = match quote {
        Some(quote) if escaped => inner.find(&format!("\\{quote}")),
        Some(quote) => closing(inner, quote),
        None if whole_line => inner.find(['\n', '"', '\'']),
        None => inner.find(|c: char| c.is_whitespace() || "\"',;&}])".contains(c)),
    };
    let length = end.unwrap_or(inner.len());
    let start = text.len() - inner.len();
    // What a rule before this one has replaced stays as it says; an empty value tells nothing.
    let replaced = ["[secret]", "[pem]"].iter().any(|mark| inner.starts_with(mark));
    let nothing = matches!(inner.get(..length), None | Some("" | "null" | "true" | "false" | "{" | "["));
    (!replaced && !nothing).then_some((start, start + length))
}

/// The next quote without a backslash before it, or the end of the line.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '\n' || (c == quote && !escaped);
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_logins_and_values() {
        for (text, expected) in [
            ("a\n-----BEGIN EC PRIVATE KEY-----\nMII\n-----END EC PRIVATE KEY-----\nb", "a\n[pem]\nb"),
            ("x -----BEGIN CERTIFICATE-----\\nMII\\n-----END CERTIFICATE-----\\n y", "x [pem]\\n y"),
            ("cut -----BEGIN PRIVATE KEY-----\nMII", "cut [pem]"),
            ("postgres://bob:pw@db:5432/x?y=z ok", "postgres://[login]@db:5432/x?y=z ok"),
            ("https://registry.example/a@sha256:00", "https://registry.example/a@sha256:00"),
            ("password=pw1, next", "password=[value], next"),
            ("PGPASSWORD=pw1 psql", "PGPASSWORD=[value] psql"),
            (r#"{"Password": "p w", "b": 1}"#, r#"{"Password": "[value]", "b": 1}"#),
            (r#"{\"token\":\"abc\"}"#, r#"{\"token\":\"[value]\"}"#),
            ("Authorization: Bearer a.b.c\nnext", "Authorization: [value]\nnext"),
            (r#"{"token":"a\"b c","x":1}"#, r#"{"token":"[value]","x":1}"#),
            ("secret=[secret];", "secret=[secret];"),
            ("api_key : 'x y' z", "api_key : '[value]' z"),
            ("the password is checked", "the password is checked"),
            (r#""secrets": [], "secret": null"#, r#""secrets": [], "secret": null"#),
            ("password=", "password="),
        ] {
            assert_eq!(values(&logins(&pem(text).0).0).0, expected);
        }
    }
}
