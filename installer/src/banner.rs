//! The marking as the first and the last line of a command.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use bundle_format::marking::{Level, Marking};

/// The line to be printed again at the end.
static OPEN: Mutex<Option<String>> = Mutex::new(None);

/// Prints the marking as the first line. On standard error, so that `--json` output stays one
/// document. The text is always there; colour only adds to it. Opening it again changes nothing.
pub fn open(marking: &Marking, no_color: bool) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if open.is_some() {
        return;
    }
    let colour = !no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
    let text = line(marking, colour.then(|| colours(marking.level())).as_deref());
    print(&text);
    *open = Some(text);
}

/// The line that is to be printed again at the end, taken away: another process will print it.
pub fn leave() -> Option<String> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Takes over from a process that printed `line` first.
pub fn take_over(line: String) {
    *OPEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
}

/// Prints the marking as the last line, if it was opened: after everything else, errors included.
pub fn close() {
    if let Some(text) = leave() {
        print(&text);
    }
}

fn print(text: &str) {
    // A closed standard error leaves nowhere to complain to.
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn line(marking: &Marking, colours: Option<&str>) -> String {
    colours.map_or_else(|| marking.to_string(), |codes| format!("\u{1b}[1;{codes}m {marking} \u{1b}[0m"))
}

/// Foreground and background after the SF 700 series labels.
fn colours(level: Level) -> String {
    let [red, green, blue] = level.colour();
    format!("{};48;2;{red};{green};{blue}", if level.dark_text() { 30 } else { 97 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_there_with_and_without_colour() {
        let marking = Marking::parse("SECRET//NOFORN").unwrap();
        assert_eq!(line(&marking, None), "SECRET//NOFORN");
        let coloured = line(&marking, Some(&colours(marking.level())));
        assert!(coloured.contains(" SECRET//NOFORN ") && coloured.ends_with("\u{1b}[0m"), "{coloured:?}");
    }
}
