//! The simulated engine as a program: what tests put on the search path under the name `podman`.
#![allow(clippy::print_stderr, reason = "a program that says why it refuses")]
#![allow(clippy::expect_used, reason = "test support: a panic here is a failed test")]

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use system_tests::engine;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = std::env::var_os(engine::FOLDER) else {
        eprintln!("Error: {} names no folder", engine::FOLDER);
        return ExitCode::from(125);
    };
    // podman keeps layers there while it unpacks them, else in /var/tmp, where nobody looked for room.
    let aside = std::env::var_os("TMPDIR").map(std::path::PathBuf::from).filter(|folder| folder.is_dir());
    if args.first().is_some_and(|verb| verb == "pull") && aside.is_none_or(|folder| !folder.ends_with("engine/copies"))
    {
        eprintln!("Error: no folder of the installer's own for layers on their way");
        return ExitCode::from(125);
    }
    let input = || {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).expect("standard input");
        bytes
    };
    let (code, shown, said) = match engine::call(folder.as_ref(), &args, input) {
        Ok(shown) => (0, shown, String::new()),
        Err(refusal) => (refusal.code, refusal.shown.into_bytes(), refusal.text),
    };
    // The installer may be dead by now: that nobody reads is no failure of the engine.
    drop(std::io::stdout().write_all(&shown));
    if !said.is_empty() {
        drop(writeln!(std::io::stderr(), "Error: {said}"));
    }
    ExitCode::from(u8::try_from(code).unwrap_or(125))
}
