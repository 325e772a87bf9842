//! Bytes that one thread makes while another takes them.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::error::{Error, Result};

/// Bytes that are handed over at once.
const PART: usize = 1 << 20;
/// Parts on their way at most.
const ON_THEIR_WAY: usize = 16;

/// Runs `make` on a thread of its own; what it writes goes to `to` here, in its order.
pub(crate) fn through<T: Send>(
    to: &mut dyn Write,
    make: impl FnOnce(&mut (dyn Write + Send)) -> Result<T> + Send,
) -> Result<T> {
    let (send, receive) = sync_channel::<Vec<u8>>(ON_THEIR_WAY);
    std::thread::scope(|scope| {
        let maker = scope.spawn(move || make(&mut Parts(send)));
        let written = receive.into_iter().try_for_each(|part| to.write_all(&part));
        let said = maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What could not be written stopped who made it.
        written.map_err(|e| Error::io("pack", e))?;
        said
    })
}

/// Sends what is written to it.
struct Parts(SyncSender<Vec<u8>>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.get(..PART).unwrap_or(bytes);
        self.0.send(part.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Takes two parts.
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 > 2 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_bytes_come_in_order_and_both_sides_can_fail() {
        let bytes: Vec<u8> = (0..40 * PART + 3).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut out = Vec::new();
        let said = through(&mut out, |to| {
            to.write_all(&bytes[..5]).and_then(|()| to.write_all(&bytes[5..])).map_err(|e| Error::io("TEST", e))?;
            Ok(7)
        });
        assert!(said.unwrap() == 7 && out == bytes);

        let failed = through(&mut out, |_| Err::<(), _>(ErrorKind::Usage("TEST".into()).into()));
        assert!(matches!(failed.unwrap_err().kind(), ErrorKind::Usage(why) if why == "TEST"));

        let failed = through(&mut Full(0), |to| to.write_all(&bytes).map_err(|e| Error::io("TEST", e)));
        let failed = failed.unwrap_err();
        let ErrorKind::Io { source, .. } = failed.kind() else { panic!("{failed}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }
}
