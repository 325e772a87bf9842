//! The one question of a command: on a terminal, and without the lock.

use std::io::{IsTerminal as _, Write as _};

use super::command::Desk;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Holder, Lock};
use crate::progress::warn;
use crate::state::State;

impl Desk<'_> {
    /// Asks without the lock, which backups need every few minutes, while nobody knows how long an answer takes.
    /// Where the record is another one when the lock is held again, what was shown is not what would be done:
    /// refused, with nothing changed.
    pub(crate) fn confirm_unlocked(&self, question: &str, lock: Lock, act: &str, state: &mut State) -> Result<Lock> {
        if self.yes {
            return Ok(lock);
        }
        let before = state.mark()?;
        drop(lock);
        self.confirm(question)?;
        let tell = |holder: &Holder| warn(&format!("waiting until a backup is made: {holder}"));
        let lock = Lock::take_after_backup(&self.paths.lock(), act, tell)?;
        if state.mark()? != before {
            return Err(ErrorKind::ChangedMeanwhile.into());
        }
        self.let_go(state)?;
        Ok(lock)
    }

    /// Asks on a terminal; off it `--yes` must have answered already.
    pub fn confirm(&self, question: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(
                ErrorKind::Usage { why: format!("{question} There is no terminal to ask on; give --yes") }.into()
            );
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{question} Type yes:").map_err(|e| Error::io("standard output", e))?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(|e| Error::io("terminal", e))?;
        if answer.trim() == "yes" {
            Ok(())
        } else {
            Err(ErrorKind::Usage { why: "not confirmed; nothing was changed".into() }.into())
        }
    }
}
