//! Work on all cores.

/// Runs `work` once on each core, at most eight; the first error is the result. The workers share
/// what there is to do by a counter or a queue of their own.
pub fn on_all_cores<E: Send>(work: impl Fn() -> Result<(), E> + Sync) -> Result<(), E> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(&work)).collect();
        let mut result = work();
        for other in others {
            let joined = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(joined);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn all_work_is_done_once_and_an_error_comes_out() {
        let (next, done) = (AtomicU32::new(0), AtomicU32::new(0));
        let result: Result<(), u32> = on_all_cores(|| {
            while next.fetch_add(1, Ordering::Relaxed) < 100 {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        assert_eq!((result, done.into_inner()), (Ok(()), 100));
        let once = AtomicU32::new(0);
        let failed = on_all_cores(|| if once.fetch_add(1, Ordering::Relaxed) == 0 { Err("first") } else { Ok(()) });
        assert_eq!(failed, Err("first"));
    }
}
