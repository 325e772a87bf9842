//! Where a name or an address stands by itself in a text, also behind the escapes of logs and JSON.

/// Replaces a word in any case where no letter or digit stands before or behind it.
pub(super) fn replace_words(text: &str, word: &str, by: &str) -> (String, u64) {
    // ASCII case alone, so that places in one text are places in the other.
    let lower = text.to_ascii_lowercase();
    let (mut out, mut from, mut times) = (String::with_capacity(text.len()), 0, 0);
    for (at, _) in lower.match_indices(word) {
        let end = at + word.len();
        if at < from
            || !begins_after(text.get(..at).unwrap_or_default())
            || !ends_before(text.get(end..).unwrap_or_default())
        {
            continue;
        }
        out.push_str(text.get(from..at).unwrap_or_default());
        out.push_str(by);
        (from, times) = (end, times + 1);
    }
    out.push_str(text.get(from..).unwrap_or_default());
    (out, times)
}

/// Hands every run of such characters that stands by itself to `replace`.
pub(super) fn replace_runs(
    text: &str,
    is_part: impl Fn(char) -> bool,
    mut replace: impl FnMut(&str) -> Option<String>,
) -> (String, u64) {
    let (mut out, mut times, mut at) = (String::with_capacity(text.len()), 0, 0);
    while let Some(start) = text.get(at..).and_then(|rest| rest.find(&is_part)).map(|found| at + found) {
        let rest = text.get(start..).unwrap_or_default();
        let end = start + rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        // What belongs to an escape before it is no part of the run.
        let start = (start + inside_escape(text.get(..start).unwrap_or_default(), rest)).min(end);
        let (before, run) = (text.get(..start).unwrap_or_default(), text.get(start..end).unwrap_or_default());
        let alone = (run.starts_with(':') || begins_after(before)) && ends_before(text.get(end..).unwrap_or_default());
        out.push_str(text.get(at..start).unwrap_or_default());
        match replace(run).filter(|_| alone) {
            Some(replaced) => {
                out.push_str(&replaced);
                times += 1;
            }
            None => out.push_str(run),
        }
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    (out, times)
}

/// Whether something can begin behind this: no letter or digit, or one that is the end of an escape
/// (`\n`, `\u001b`, `\x1b`, `%20`) or of a terminal's colour (`[31m`).
fn begins_after(before: &str) -> bool {
    if !before.chars().next_back().is_some_and(char::is_alphanumeric) {
        return true;
    }
    let hex_behind = |mark: &str, digits: usize| {
        let (head, tail) = before.split_at_checked(before.len().saturating_sub(digits)).unwrap_or_default();
        head.ends_with(mark) && tail.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let letter = ["\\n", "\\r", "\\t", "\\b", "\\f", "\\v", "\\0"].iter().any(|escape| before.ends_with(escape));
    let colour = before
        .strip_suffix('m')
        .is_some_and(|head| head.trim_end_matches(|c: char| c.is_ascii_digit() || c == ';').ends_with('['));
    letter || colour || hex_behind("\\u", 4) || hex_behind("\\x", 2) || hex_behind("%", 2)
}

fn ends_before(behind: &str) -> bool {
    !behind.chars().next().is_some_and(char::is_alphanumeric)
}

/// How many characters of `rest` end an escape that began before it.
fn inside_escape(before: &str, rest: &str) -> usize {
    let hex = |digits: usize| rest.get(..digits).is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match () {
        () if before.ends_with("\\u") && hex(4) => 4,
        () if (before.ends_with("\\x") || before.ends_with('%')) && hex(2) => 2,
        () if before.ends_with('\\') && rest.starts_with(['b', 'f', '0']) => 1,
        () => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_something_can_begin_after() {
        for (before, begins) in [
            ("", true),
            ("a ", true),
            ("a-", true),
            ("a", false),
            ("7", false),
            ("\\n", true),
            ("\\u001b", true),
            ("u001b", false),
            ("\\x1b", true),
            ("%20", true),
            ("a20", false),
            ("\\u001b[31m", true),
            ("m", false),
            ("ü", false),
        ] {
            assert_eq!(begins_after(before), begins, "{before:?}");
        }
    }
}
