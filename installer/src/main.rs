//! `installer`: parse, dispatch, print.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    installer::unpacker::enable();
    let cli = installer::cli::Cli::parse();
    let code = match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut said = format!("error: {error}\n");
            let mut source = error.source();
            while let Some(cause) = source {
                said.push_str("  because: ");
                said.push_str(&cause.to_string());
                said.push('\n');
                source = cause.source();
            }
            // A standard error that is gone changes nothing about what happened: the exit code tells.
            drop(writeln!(std::io::stderr(), "{said}what to do: {}", error.advice()));
            ExitCode::from(error.class().exit_code())
        }
    };
    installer::banner::close();
    code
}
