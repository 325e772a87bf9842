//! The marking as the first and the last line of a command.

use std::io::{IsTerminal as _, Write as _};

use bundle_format::marking::{Level, Marking};

/// Prints the marking when opened and again when dropped, on standard error, so that `--json`
/// output stays one document. The text is always there; colour only adds to it.
#[derive(Debug)]
pub struct Banner {
    line: String,
}

impl Banner {
    /// Opens the banner.
    pub fn open(marking: &Marking, no_color: bool) -> Self {
        let colour = !no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
        let banner = Self { line: line(marking, colour.then(|| colours(marking.level()))) };
        banner.print();
        banner
    }

    fn print(&self) {
        // A closed standard error leaves nowhere to complain to.
        drop(writeln!(std::io::stderr(), "{}", self.line));
    }
}

impl Drop for Banner {
    fn drop(&mut self) {
        self.print();
    }
}

fn line(marking: &Marking, colours: Option<&str>) -> String {
    colours.map_or_else(|| marking.to_string(), |codes| format!("\u{1b}[1;{codes}m {marking} \u{1b}[0m"))
}

/// Foreground and background after the SF 700 series labels.
const fn colours(level: Level) -> &'static str {
    match level {
        Level::Unclassified => "97;48;2;0;122;51",
        Level::Cui => "97;48;2;80;43;133",
        Level::Confidential => "97;48;2;0;51;160",
        Level::Secret => "97;48;2;200;16;46",
        Level::TopSecret => "30;48;2;255;140;0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_there_with_and_without_colour() {
        let marking = Marking::parse("SECRET//NOFORN").unwrap();
        assert_eq!(line(&marking, None), "SECRET//NOFORN");
        let coloured = line(&marking, Some(colours(marking.level())));
        assert!(coloured.contains(" SECRET//NOFORN ") && coloured.ends_with("\u{1b}[0m"), "{coloured:?}");
    }
}
