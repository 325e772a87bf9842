//! A person or the system asks the installer to end: the step at hand is finished or given up, and
//! what was made is taken back. A second request ends the process at once; the journal covers that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, ErrorKind, Result};

/// Whether somebody asked.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let stop = Self::default();
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            // This order: the first signal finds the flag down, so only the second ends the process.
            let registered = flag::register_conditional_default(signal, Arc::clone(&stop.0))
                .and_then(|_| flag::register(signal, Arc::clone(&stop.0)));
            registered.map_err(|e| Error::io("signal handlers", e))?;
        }
        Ok(stop)
    }

    /// An error once somebody asked.
    pub fn refuse(&self) -> Result<()> {
        if self.asked() { Err(ErrorKind::Stopped.into()) } else { Ok(()) }
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_request_is_noted() {
        let stop = Stop::listen().unwrap();
        assert!(!stop.asked());
        stop.refuse().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
        assert!(stop.asked());
        let error = stop.refuse().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{error}");
        assert_eq!(error.class().exit_code(), 7);
    }
}
