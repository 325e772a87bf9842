//! `installer`: parse, dispatch, print.
#![allow(clippy::print_stderr, reason = "the one place that tells a person what went wrong")]

use std::error::Error as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = installer::cli::Cli::parse();
    let code = match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            eprintln!("what to do: {}", error.advice());
            ExitCode::from(error.class().exit_code())
        }
    };
    installer::banner::close();
    code
}
