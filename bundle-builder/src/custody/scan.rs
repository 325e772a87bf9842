//! The hook for a site's scanner (custody 5): `PROGRAM ARGS FILES…`, exit 0 clean, 1 infected,
//! anything else a failure.
//!
//! Only a clean verdict gets onto a record. What the scanner printed is kept beside the set and its
//! digest goes into the record, so that a report cannot be exchanged later.

use std::path::PathBuf;

use bundle_format::custody::{Scan, ScanResult};
use bundle_format::digest::Sha384;
use bundle_format::text::escaped;
use bundle_format::timestamp::Timestamp;

use crate::command::Command;
use crate::error::{ErrorKind, Result};

/// A site's scanner.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// Program by name or path.
    pub program: PathBuf,
    /// Arguments before the files.
    pub args: Vec<String>,
}

/// A clean verdict and what the scanner printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// For the record.
    pub scan: Scan,
    /// Standard output, then standard error.
    pub text: Vec<u8>,
}

/// Bytes of a scanner's words that an error or a record quotes.
const QUOTED: usize = 200;

impl Scanner {
    /// Scans `files`; an error unless the verdict is clean. `record` is the number for messages.
    pub fn scan(&self, record: u64, files: &[PathBuf], at: &Timestamp) -> Result<Report> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let scanner = quoted(&name);
        let told = Command::new(&self.program).args(["--version"]).output()?;
        let (version, signatures) = versions(&String::from_utf8_lossy(&told.stdout));
        let output = Command::new(&self.program).args(&self.args).args(files).output()?;
        let text = [output.stdout, output.stderr].concat();
        match output.code {
            0 => {
                let (result, report_sha384) = (ScanResult::Clean, Sha384::of(&text));
                Ok(Report { scan: Scan { scanner, version, signatures, at: at.clone(), result, report_sha384 }, text })
            }
            1 => {
                let words = found(&String::from_utf8_lossy(&text));
                Err(ErrorKind::Infected { record, scanner, words }.into())
            }
            code => {
                let words = quoted(String::from_utf8_lossy(&text).trim());
                Err(ErrorKind::ScanFailed { scanner, code, words }.into())
            }
        }
    }
}

/// `ENGINE/DATABASE/DATE`, as ClamAV prints it; without the slash the signatures stay unknown.
fn versions(told: &str) -> (String, String) {
    let line = told.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    let (engine, signatures) = line.split_once('/').unwrap_or((line, ""));
    let or_unknown = |text: String| if text.is_empty() { "not told".into() } else { text };
    (or_unknown(quoted(engine)), or_unknown(quoted(signatures)))
}

/// The lines that name a finding, in ClamAV's form; else the beginning.
fn found(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| line.ends_with(" FOUND")).collect();
    if lines.is_empty() { quoted(text.trim()) } else { quoted(&lines.join("; ")) }
}

/// One line that a record accepts and a terminal shows as it is.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted = escaped(&line).replace('\\', "");
    let end = quoted.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= QUOTED).last();
    quoted.get(..end.unwrap_or(0)).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_scanners_print_them() {
        let cases = [
            ("ClamAV 1.4.6/27500/Sun Nov 1 08:00:00 2026\n", "ClamAV 1.4.6", "27500/Sun Nov 1 08:00:00 2026"),
            ("ClamAV 1.4.6\n", "ClamAV 1.4.6", "not told"),
            ("", "not told", "not told"),
            ("\n a\u{1b}[2J\tb \n", "au{1b}[2J b", "not told"),
        ];
        for (told, version, signatures) in cases {
            assert_eq!(versions(told), (version.to_owned(), signatures.to_owned()), "{told:?}");
        }
    }

    #[test]
    fn verdicts_by_exit_code() {
        let at = Timestamp::from_unix(0);
        let scanner = |script: &str| Scanner { program: "sh".into(), args: vec!["-c".into(), script.into()] };
        let clean = scanner("echo $0 OK; echo note >&2").scan(1, &["v1".into()], &at).unwrap();
        assert_eq!(clean.text, b"v1 OK\nnote\n");
        assert_eq!(clean.scan.report_sha384, Sha384::of(&clean.text));
        let error = scanner("echo v1: Test FOUND; exit 1").scan(7, &["v1".into()], &at).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Infected { record: 7, words, .. } if words == "v1: Test FOUND"));
        for script in ["echo no database >&2; exit 2", "kill -9 $$"] {
            let error = scanner(script).scan(1, &["v1".into()], &at).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ScanFailed { .. }), "{error}");
            assert_eq!(error.class().exit_code(), 6);
        }
        let none = Scanner { program: "/no/such/scanner".into(), args: Vec::new() };
        let error = none.scan(1, &[], &at).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ProgramMissing { .. }), "{error}");
    }
}
